CREATE TABLE events (
	position INTEGER NOT NULL,
	source TEXT NOT NULL,
	event_id TEXT NOT NULL,
	customer_id TEXT NOT NULL,
	kind TEXT NOT NULL,
	channel TEXT,
	occurred_at INTEGER NOT NULL,
	arrived_at INTEGER NOT NULL,
	sequence INTEGER NOT NULL,
	day INTEGER NOT NULL,
	facts BLOB NOT NULL,
	text TEXT,
	PRIMARY KEY (position),
	CONSTRAINT events_identity UNIQUE (source, event_id)
)
CREATE INDEX events_of_customer ON events (customer_id, occurred_at, sequence, source, event_id)

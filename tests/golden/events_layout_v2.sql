CREATE TABLE claims (
	position INTEGER NOT NULL,
	alias TEXT NOT NULL,
	customer_id TEXT NOT NULL,
	is_link INTEGER NOT NULL,
	boundary INTEGER,
	occurred_at INTEGER NOT NULL,
	sequence INTEGER NOT NULL,
	source TEXT NOT NULL,
	event_id TEXT NOT NULL,
	arrived_at INTEGER NOT NULL,
	PRIMARY KEY (position)
)
CREATE INDEX claims_of_alias ON claims (alias)
CREATE INDEX claims_of_customer ON claims (customer_id)
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
CREATE INDEX events_with_text ON events (arrived_at) WHERE text IS NOT NULL
CREATE TABLE identifiers (
	name TEXT NOT NULL,
	value TEXT NOT NULL,
	customer_id TEXT NOT NULL,
	CONSTRAINT identifiers_told PRIMARY KEY (name, value, customer_id)
)
CREATE TABLE identifiers_indexed (
	name TEXT NOT NULL,
	position INTEGER NOT NULL,
	PRIMARY KEY (name)
)

CREATE TABLE consent_changes (
	customer_id TEXT NOT NULL,
	consent TEXT NOT NULL,
	state TEXT NOT NULL,
	at INTEGER NOT NULL,
	CONSTRAINT consent_changes_identity PRIMARY KEY (customer_id, consent, at)
)
CREATE TABLE contacts (
	decision_id TEXT NOT NULL,
	customer_id TEXT NOT NULL,
	action_id TEXT NOT NULL,
	channel TEXT NOT NULL,
	at INTEGER NOT NULL,
	status TEXT NOT NULL,
	expires_at INTEGER NOT NULL,
	send_id TEXT,
	occasion INTEGER NOT NULL,
	CONSTRAINT contacts_identity PRIMARY KEY (customer_id, decision_id, action_id, occasion)
)
CREATE INDEX contacts_of_customer ON contacts (customer_id, at)
CREATE TABLE decisions (
	decision_id TEXT NOT NULL,
	source TEXT NOT NULL,
	request_id TEXT NOT NULL,
	request_hash TEXT NOT NULL,
	customer_id TEXT NOT NULL,
	decided_at INTEGER NOT NULL,
	day INTEGER NOT NULL,
	record BLOB NOT NULL,
	answer BLOB NOT NULL,
	PRIMARY KEY (decision_id),
	CONSTRAINT decisions_request UNIQUE (source, request_id)
)
CREATE INDEX decisions_of_customer ON decisions (customer_id, decided_at)
CREATE INDEX decisions_of_day ON decisions (day)

CREATE TABLE capacity_counters (
	limit_id TEXT NOT NULL,
	window_start INTEGER NOT NULL,
	used INTEGER NOT NULL,
	CONSTRAINT capacity_counters_identity PRIMARY KEY (limit_id, window_start)
)
CREATE TABLE capacity_holds (
	decision_id TEXT NOT NULL,
	action_id TEXT NOT NULL,
	limit_id TEXT NOT NULL,
	window_start INTEGER NOT NULL,
	customer_id TEXT NOT NULL,
	send_id TEXT,
	need INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	is_released INTEGER NOT NULL,
	CONSTRAINT capacity_holds_identity PRIMARY KEY (decision_id, action_id, limit_id, window_start)
)
CREATE INDEX capacity_holds_ending ON capacity_holds (limit_id, window_start, is_released, expires_at)
CREATE INDEX capacity_holds_of_send ON capacity_holds (customer_id, send_id)
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
	response TEXT DEFAULT '' NOT NULL,
	response_at INTEGER DEFAULT 0 NOT NULL,
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
CREATE TABLE jobs (
	job_id TEXT NOT NULL,
	kind TEXT NOT NULL,
	spec BLOB NOT NULL,
	source TEXT NOT NULL,
	key_id TEXT NOT NULL,
	request_id TEXT NOT NULL,
	request_hash TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	ready_at INTEGER NOT NULL,
	state TEXT NOT NULL,
	step TEXT NOT NULL,
	done INTEGER NOT NULL,
	total INTEGER,
	owner TEXT NOT NULL,
	token INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	lease_until INTEGER NOT NULL,
	heartbeat_at INTEGER NOT NULL,
	started_at INTEGER,
	finished_at INTEGER,
	summary BLOB,
	file TEXT,
	error BLOB,
	PRIMARY KEY (job_id),
	CONSTRAINT jobs_request UNIQUE (source, request_id)
)
CREATE INDEX jobs_finished ON jobs (finished_at)
CREATE INDEX jobs_of_source ON jobs (source, job_id)
CREATE INDEX jobs_of_state ON jobs (state, created_at)
CREATE TABLE persons (
	person_id TEXT NOT NULL,
	person BLOB NOT NULL,
	open_work INTEGER NOT NULL,
	PRIMARY KEY (person_id)
)

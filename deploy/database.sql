-- Run once, when the database's volume is new: the database, and a user who owns it and may do nothing else.
\getenv password DATABASE_PASSWORD
CREATE ROLE headway LOGIN PASSWORD :'password';
CREATE DATABASE headway OWNER headway;

-- The two roles of stepup in the current database: one migrates and owns the tables, one serves.
-- Run it with psql (15 or newer) in each new database, as a role that may create roles and owns the
-- database, with the passwords in the environment. Roles that exist keep their rights, and get the
-- passwords. `stepup migrate --grant-to stepup_serve` then grants the rest.
\set ON_ERROR_STOP on
\getenv migrate_password STEPUP_MIGRATE_PASSWORD
\getenv serve_password STEPUP_SERVE_PASSWORD
SELECT current_database() AS database \gset

BEGIN;
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name)
  FROM unnest(ARRAY['stepup_migrate', 'stepup_serve']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE stepup_migrate PASSWORD :'migrate_password';
ALTER ROLE stepup_serve PASSWORD :'serve_password';

-- No other role can connect, and only the migrating role creates anything, even temporary tables.
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO stepup_migrate, stepup_serve;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO stepup_migrate;
GRANT USAGE ON SCHEMA public TO stepup_serve;
COMMIT;

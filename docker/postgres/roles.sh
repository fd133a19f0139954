#!/bin/sh
# Runs once, when the database is made: an owner for migrations, the fleet's user, and one who may only read.
set -eu
psql --set ON_ERROR_STOP=1 --username "${POSTGRES_USER}" --dbname "${POSTGRES_DB}" \
    --set owner="${NPUQ_OWNER_PASSWORD:?}" --set fleet="${NPUQ_FLEET_PASSWORD:?}" \
    --set reader="${NPUQ_READER_PASSWORD:?}" --set database="${POSTGRES_DB}" <<'SQL'
CREATE ROLE npuq_owner LOGIN PASSWORD :'owner';
CREATE ROLE npuq_fleet LOGIN PASSWORD :'fleet';
CREATE ROLE npuq_reader LOGIN PASSWORD :'reader';
ALTER ROLE npuq_reader SET default_transaction_read_only = on;
ALTER ROLE npuq_reader SET statement_timeout = '30s';
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO npuq_owner, npuq_fleet, npuq_reader;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO npuq_owner;
GRANT USAGE ON SCHEMA public TO npuq_fleet, npuq_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE npuq_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO npuq_fleet;
ALTER DEFAULT PRIVILEGES FOR ROLE npuq_owner IN SCHEMA public GRANT USAGE ON SEQUENCES TO npuq_fleet;
ALTER DEFAULT PRIVILEGES FOR ROLE npuq_owner IN SCHEMA public GRANT SELECT ON TABLES TO npuq_reader;
-- The schema's version is the owner's word alone; made here, it does not get the rights of the tables to come.
CREATE TABLE public.alembic_version (version_num varchar(32) CONSTRAINT alembic_version_pkc PRIMARY KEY);
ALTER TABLE public.alembic_version OWNER TO npuq_owner;
GRANT SELECT ON public.alembic_version TO npuq_fleet, npuq_reader;
SQL

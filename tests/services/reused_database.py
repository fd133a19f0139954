"""A PostgreSQL database that tests use one after another: emptied between them, dropped when its schema has changed.

A new one is some three hundred files, and the kernel is slow to make files where many were removed lately.
"""

from typing import Final

from sqlalchemy import create_engine, text

#: Beside the tables: the rows with which a migrated database begins.
REMEMBER_FIRST_ROWS: Final = """
DO $$
DECLARE
    name text;
    found boolean;
BEGIN
    CREATE SCHEMA at_first;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', name) INTO found;
        IF found THEN
            EXECUTE format('CREATE TABLE at_first.%I AS TABLE public.%I', name, name);
        END IF;
    END LOOP;
END $$
"""
_END_OTHERS: Final = """
SELECT pg_terminate_backend(pid, 5000)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
#: Without triggers, and so without guards and foreign keys.
_RETURN_TO_FIRST_ROWS: Final = """
DO $$
DECLARE
    name text;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('DELETE FROM public.%I', name);
    END LOOP;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'at_first' LOOP
        EXECUTE format('INSERT INTO public.%I OVERRIDING SYSTEM VALUE SELECT * FROM at_first.%I', name, name);
    END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
        PERFORM setval(format('public.%I', name), 1, false);
    END LOOP;
END $$
"""
_SCHEMA: Final = """
SELECT string_agg(line, ' ' ORDER BY line)
FROM (
    SELECT format('%s %s %s %s', oid, relname, relnatts, relacl) AS line
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT format('%s %s %s %s', attrelid, attname, atttypid, attnotnull)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT format('%s %s', oid, conname) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT format('%s %s %s', oid, tgname, tgenabled) FROM pg_trigger
    UNION ALL
    SELECT format('%s %s %s', oid, proname, md5(prosrc)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
) AS lines
"""


class ReusedDatabase:
    """One of them.

    Args:
        name: of the database.
        url: of the database, for a superuser; it remembers its first rows.
    """

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0)
        self._first_schema = self._schema()

    def _schema(self) -> str:
        with self._engine.connect() as connection:
            return str(connection.execute(text(_SCHEMA)).scalar_one())

    def reset(self) -> bool:
        """End everybody's connections and return to the first rows; False when that is not enough to be as new."""
        with self._engine.connect() as connection:
            connection.execute(text(_END_OTHERS))
        if self._schema() != self._first_schema:
            return False
        with self._engine.connect() as connection:
            connection.execute(text(_RETURN_TO_FIRST_ROWS))
        return True

    def close(self) -> None:
        """Leave it."""
        self._engine.dispose()

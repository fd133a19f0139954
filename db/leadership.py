"""Which scheduler leads. An optimisation: two leaders at once waste work and break nothing, every move is guarded."""

from typing import Any

from sqlalchemy import Connection, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from db.tables import Leader
from db.types import db_now


def hold(connection: Connection, owner: str, seconds: float) -> bool:
    """Take or renew the lead for some seconds by the database's clock; False while another holds it."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = dialect.insert(Leader).values(id=1, owner=owner, expires_at=db_now(seconds))
    taken = connection.execute(
        row.on_conflict_do_update(
            index_elements=["id"],
            set_={"owner": owner, "expires_at": db_now(seconds)},
            where=or_(Leader.owner == owner, Leader.expires_at < db_now()),
        )
    )
    return bool(taken.rowcount == 1)


def leader(connection: Connection) -> str | None:
    """Return who leads now; None when nobody does."""
    return connection.execute(select(Leader.owner).where(Leader.expires_at >= db_now())).scalar()


def resign(connection: Connection, owner: str) -> None:
    """Give the lead up at once, so that another need not wait."""
    connection.execute(delete(Leader).where(Leader.owner == owner))

"""How Alembic runs our migrations: on the connection that store/migrate.py hands over."""

from alembic import context

from cloud.store.migrate import all_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=all_tables(),
    render_as_batch=True,  # SQLite alters a table by writing a new one
    transaction_per_migration=False,
)
context.run_migrations()

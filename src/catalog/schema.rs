//! The schema of a catalog, as it came to be.

use super::database::Migration;

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration::Sql(
        "
    CREATE TABLE repository (id BLOB NOT NULL) STRICT;
    CREATE TABLE pack (
        no INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE,
        kind INTEGER NOT NULL, bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE object (
        name BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
        stored INTEGER NOT NULL, plain INTEGER NOT NULL,
        kind INTEGER NOT NULL, encoding INTEGER NOT NULL,
        PRIMARY KEY (name, pack)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE point (
        id BLOB NOT NULL PRIMARY KEY, machine TEXT NOT NULL, sequence INTEGER NOT NULL,
        manifest TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX point_by_machine ON point (machine, sequence);
",
    ),
    Migration::Sql(
        "
    ALTER TABLE pack ADD COLUMN condemned INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE damaged (
        name BLOB NOT NULL, pack INTEGER NOT NULL, PRIMARY KEY (name, pack)
    ) STRICT, WITHOUT ROWID;
",
    ),
    Migration::Sql("ALTER TABLE point ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;"),
    Migration::Sql("ALTER TABLE repository ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;"),
    Migration::Sql(
        "
    CREATE TABLE document (
        folder TEXT NOT NULL, name BLOB NOT NULL, point BLOB, epoch INTEGER,
        PRIMARY KEY (folder, name)
    ) STRICT, WITHOUT ROWID;
",
    ),
    Migration::Code(super::convert::convert),
    Migration::Sql(super::losses::MIGRATION),
    Migration::Sql(super::newest::MIGRATION),
];

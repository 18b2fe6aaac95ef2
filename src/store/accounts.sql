-- Who may use the technician's area of the box's page. A file of its own beside the store, so that
-- intake's writer is not touched and a restored backup does not bring old passwords back.

-- One row a technician. `hash` is of the password: argon2id in PHC form. `stamp` changes with each
-- password, and with it every session ends.
CREATE TABLE account (
  name       TEXT    PRIMARY KEY,
  hash       TEXT    NOT NULL,
  stamp      INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  by         TEXT    NOT NULL
) STRICT;

-- One-time codes from the console, by their SHA-256. The boot clock counts, because a box's wall
-- clock may stand anywhere.
CREATE TABLE code (
  sha256  BLOB    PRIMARY KEY,
  boot_ms INTEGER NOT NULL
) STRICT;

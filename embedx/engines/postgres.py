"""PostgreSQL with pgvector: one table, with a column of half precision for each view, and one for each metadata column.

The description is the comment of the table. Filters are SQL, and the graphs (HNSW) are searched on until enough rows
meet the filter.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedx.engines.conditions import Comparison, IsNull, Junction, Node, Prefix
from embedx.engines.engine import Description, EngineBase
from embedx.engines.places import Place
from embedx.engines.stored import (
    META,
    ROW,
    ROW_FIELDS,
    VECTORS,
    Digests,
    Point,
    digest_of,
    digests_of_stored,
    field_of,
    fields_of,
    row_of,
    view_field,
)
from embedx.errors import UsageError
from embedx.index.matrix import Floats, Ids
from embedx.store.records import Row

OPERATORS = {"cosine": ("<#>", "halfvec_ip_ops"), "ip": ("<#>", "halfvec_ip_ops"), "l2": ("<->", "halfvec_l2_ops")}
MAX_INDEXED = 4000  # numbers in a vector that pgvector can index as halfvec
MAX_HALF = 65504.0  # the largest number of half precision
MIN_EF, MAX_EF = 100, 1000  # candidates of a search in the graph; pgvector takes up to 1000
CONNECT_S = 20
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # LIKE ignores the case of these


class PostgresEngine(EngineBase):
    """A table in a database with pgvector; the password can also be in PGPASSWORD or ~/.pgpass.

    Raises:
        UsageError: psycopg is not installed.
        DiskError: the server cannot be reached.
    """

    dtype = "<f2"

    def __init__(self, place: Place) -> None:
        super().__init__(place, "psycopg", "pgvector")
        self.sql = importlib.import_module("psycopg.sql")
        self.kinds = (self.library.Error, OSError)
        self.table = place.options["table"]
        options = {name: value for name, value in place.options.items() if name != "table"}
        given = {"host": place.host, "port": place.port, "user": place.user, "password": place.password, **options}
        with self._errors():
            self.db: Any = self.library.connect(
                dbname=place.path,
                autocommit=True,
                connect_timeout=CONNECT_S,
                application_name="embedx",
                **{name: value for name, value in given.items() if value},
            )

    def _run(self, text: str, values: Any = (), **names: Any) -> Any:
        """Run a statement; {table} and `names` are identifiers or parts of SQL."""
        parts = {name: self.sql.Identifier(part) if isinstance(part, str) else part for name, part in names.items()}
        with self._errors():
            return self.db.execute(
                self.sql.SQL(text).format(table=self.sql.Identifier(self.table), **parts), values or None
            )

    def close(self) -> None:
        """Close the connection."""
        self.db.close()

    def describe(self) -> str | None:
        """Return the comment of the table; None if there is no table of this name."""
        row = self._run(
            "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass(%s)", (f'"{self.table}"',)
        ).fetchone()
        return None if row is None else row[0] or ""

    def prepare(self, description: Description) -> None:
        """Make the table if there is none, add columns that it lacks, and write the description."""
        if description.quantize is not None:
            raise UsageError("--quantize is for Qdrant and Milvus. A PostgreSQL table holds vectors of half precision.")
        with self._errors(), self.db.transaction():
            self._run("CREATE EXTENSION IF NOT EXISTS vector")
            self._run(
                "CREATE TABLE IF NOT EXISTS {table} (id bigint PRIMARY KEY, {row} text NOT NULL, {vectors} text NOT "
                "NULL, {meta} text NOT NULL)",
                row=ROW,
                vectors=VECTORS,
                meta=META,
            )
            for view, dim in description.views.items():
                kind = self.sql.SQL(f"halfvec({dim})")
                self._run(
                    "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {kind}", name=view_field(view), kind=kind
                )
            for column, kind in description.columns.items():
                self._set_kind(field_of(column), "double precision" if kind == "number" else "text")
            self._write_description(description)

    def _set_kind(self, name: str, kind: str) -> None:
        """Add a column, or change its type: a column of numbers can have got a text."""
        if name == "id":
            return
        kinds = {"name": name, "kind": self.sql.SQL(kind)}
        self._run("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {kind}", **kinds)
        row = self._run(
            "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s",
            (f'"{self.table}"', name),
        ).fetchone()
        if row[0] != kind:  # the values are sent again, because their digests differ
            self._run("ALTER TABLE {table} ALTER COLUMN {name} TYPE {kind} USING NULL", **kinds)
            self._run("UPDATE {table} SET {row} = ''", row=ROW)

    def _write_description(self, description: Description) -> None:
        self._run("COMMENT ON TABLE {table} IS {comment}", comment=self.sql.Literal(description.to_json()))

    def finish(self, description: Description) -> None:
        """Make the graphs that are missing, and write the description."""
        operators = OPERATORS[description.metric][1]
        for view, dim in description.views.items():
            if dim <= MAX_INDEXED:
                name = view_field(view)
                self._run(
                    f"CREATE INDEX IF NOT EXISTS {{index}} ON {{table}} USING hnsw ({{name}} {operators})",
                    index=f"{self.table[:40]}_{digest_of(self.table.encode())[:6]}_{name[-14:]}",
                    name=name,
                )
        self._run("ANALYZE {table}")
        self._write_description(description)

    def scan(self, after: int, limit: int, views: Sequence[str], *, whole: bool) -> list[Digests]:
        """Return the rows with the next larger ids; see `Engine.scan`."""
        if whole:
            cursor = self._run("SELECT * FROM {table} WHERE id > %s ORDER BY id LIMIT %s", (after, limit))
            names = [column.name for column in cursor.description]
            return [self._digests_of(dict(zip(names, row, strict=True)), views) for row in cursor]
        rows = self._run(
            "SELECT id, {row}, {vectors} FROM {table} WHERE id > %s ORDER BY id LIMIT %s",
            (after, limit),
            row=ROW,
            vectors=VECTORS,
        )
        return [Digests(*row) for row in rows]

    def _digests_of(self, row: Mapping[str, Any], views: Sequence[str]) -> Digests:
        """Return the digests of what is stored now."""
        fields = {name: value for name, value in row.items() if value is not None and not name.startswith("v_")}
        vectors = {view: to_vector(text) for view in views if (text := row.get(view_field(view))) is not None}
        return digests_of_stored(row["id"], fields, vectors, views, self.dtype)

    def write(self, points: Sequence[Point]) -> None:
        """Insert rows, or replace those with the same ids, in one transaction."""
        self._store(points, has_vectors=True)

    def relabel(self, points: Sequence[Point]) -> None:
        """Replace the metadata of rows that exist, in one transaction."""
        self._store(points, has_vectors=False)

    def _store(self, points: Sequence[Point], *, has_vectors: bool) -> None:
        """Write points; without vectors the rows keep those that they have. All columns are written, also NULL."""
        identifier, comma = self.sql.Identifier, self.sql.SQL(", ")
        views = list(points[0].vectors)
        fields = [name for name in self._fields() if name != "id" and not name.startswith(("v_", "embedx_"))]
        names = [*fields, META, ROW, *((VECTORS, *map(view_field, views)) if has_vectors else ())]
        marks = comma.join(self.sql.SQL("%s") for _ in names)
        if has_vectors:
            sets = comma.join(self.sql.SQL("{0} = EXCLUDED.{0}").format(identifier(name)) for name in names)
            text = "INSERT INTO {table} (id, {names}) VALUES (%s, {marks}) ON CONFLICT (id) DO UPDATE SET {sets}"
        else:
            sets = comma.join(self.sql.SQL("{} = %s").format(identifier(name)) for name in names)
            text = "UPDATE {table} SET {sets} WHERE id = %s"
        listed = comma.join(map(identifier, names))
        statement = self.sql.SQL(text).format(table=identifier(self.table), names=listed, marks=marks, sets=sets)
        rows = []
        for point in points:
            stored = fields_of(point, self.dtype)
            if has_vectors:
                stored |= {view_field(view): self._to_text(point, view) for view in views}
            values = map(stored.get, names)
            rows.append((point.id, *values) if has_vectors else (*values, point.id))
        with self._errors(), self.db.transaction(), self.db.cursor() as cursor:
            cursor.executemany(statement, rows)

    def _to_text(self, point: Point, view: str) -> str:
        """Return a vector as pgvector reads it."""
        vector = point.vectors[view]
        if np.abs(vector).max(initial=0) > MAX_HALF:
            raise UsageError(
                f"The vector {view} of row {point.id} has a number above {MAX_HALF:g}, which half precision does not "
                "hold. Push it with --metric cosine, or to another engine."
            )
        return json.dumps(vector.astype(np.float16).astype(float).tolist())

    def _fields(self) -> list[str]:
        """Return the columns of the table."""
        return [column.name for column in self._run("SELECT * FROM {table} LIMIT 0").description]

    def delete(self, ids: Sequence[int]) -> None:
        """Delete rows."""
        self._run("DELETE FROM {table} WHERE id = ANY(%s)", (list(ids),))

    def count(self) -> int:
        """Return the exact number of rows."""
        return int(self._run("SELECT count(*) FROM {table}").fetchone()[0])

    def search(
        self, description: Description, view: str, query: Floats, k: int, where: Node | None, *, exact: bool
    ) -> tuple[list[float], list[int]]:
        """Return the nearest rows to a vector; see `Engine.search`."""
        sign = OPERATORS[description.metric][0]
        values: list[Any] = []
        condition = (
            self.sql.SQL("") if where is None else self.sql.SQL("WHERE {}").format(self._translate(where, values))
        )
        vector = json.dumps(query.astype(float).tolist())
        with self._errors(), self.db.transaction():
            if exact:
                self.db.execute("SET LOCAL enable_indexscan = off")
            else:
                self.db.execute("SET LOCAL hnsw.iterative_scan = strict_order")
                self.db.execute(f"SET LOCAL hnsw.ef_search = {min(MAX_EF, max(MIN_EF, k))}")
            rows = self._run(
                f"SELECT {{name}} {sign} %s::halfvec AS distance, id FROM {{table}} {{condition}} "
                "ORDER BY distance LIMIT %s",
                (vector, *values, k),
                name=view_field(view),
                condition=condition,
            ).fetchall()
        return [-float(distance) for distance, _ in rows], [int(row_id) for _, row_id in rows]

    def _translate(self, node: Node, values: list[Any]) -> Any:
        """Return a condition as SQL, and append its values."""
        if isinstance(node, Junction):
            parts = [self.sql.SQL("({})").format(self._translate(part, values)) for part in node.parts]
            return self.sql.SQL(" OR " if node.is_any else " AND ").join(parts)
        column = self.sql.Identifier(field_of(node.column))
        if isinstance(node, IsNull):
            return self.sql.SQL("{} IS NOT NULL" if node.negated else "{} IS NULL").format(column)
        if isinstance(node, Prefix):
            values += [LETTERS, LETTERS.lower(), node.prefix]
            text = f"{'NOT ' if node.negated else ''}starts_with(translate({{}}, %s, %s), %s)"
            return self.sql.SQL(text).format(column)
        collation = "" if node.is_number else ' COLLATE "C"'  # the order of bytes, as in a local collection
        if isinstance(node, Comparison):
            values.append(node.value)
            return self.sql.SQL(f"{{}}{collation} {node.operator} %s").format(column)
        values.append(list(node.values))
        kind = "double precision" if node.is_number else "text"
        return self.sql.SQL(f"{'NOT ' if node.negated else ''}({{}} = ANY(%s::{kind}[]))").format(column)

    def ids(self, where: Node | None, after: int, limit: int) -> list[int]:
        """Return the next larger ids of the rows that meet a condition; see `Engine.ids`."""
        values: list[Any] = []
        condition = self.sql.SQL("TRUE") if where is None else self._translate(where, values)
        text = "SELECT id FROM {table} WHERE ({condition}) AND id > %s ORDER BY id LIMIT %s"
        return [number for (number,) in self._run(text, (*values, after, limit), condition=condition)]

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Return rows in the order of their ids; ids that do not exist are left out."""
        names = self.sql.SQL(", ").join(map(self.sql.Identifier, ROW_FIELDS))
        found = self._run("SELECT id, {names} FROM {table} WHERE id = ANY(%s) ORDER BY id", (list(ids),), names=names)
        return [row_of(number, dict(zip(ROW_FIELDS, values, strict=True))) for number, *values in found]

    def vectors(self, view: str, ids: Sequence[int]) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and stored vectors [N, D]; ids that do not exist are left out."""
        rows = self._run(
            "SELECT id, {name} FROM {table} WHERE id = ANY(%s) ORDER BY id", (list(ids),), name=view_field(view)
        ).fetchall()
        vectors = [to_vector(text) for _, text in rows]
        return np.array([number for number, _ in rows], np.int64), np.array(vectors, np.float32)


def to_vector(text: str) -> Floats:
    """Return a vector that pgvector has written as text."""
    return np.array(json.loads(text), np.float32)

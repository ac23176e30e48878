"""How the embedded log keeps a record's value and headers: what is over a kilobyte is compressed.

Records of one topic are alike: an Arrow batch of a few rows is mostly schema and names. So the first large record of each
topic is kept as the dictionary with which those after it are compressed; on samples of 25 rows that more than halves them.
"""

import json
import sqlite3

import zstandard

from redis_agent.log import MAX_RECORD_BYTES, Headers

TABLES = "CREATE TABLE dictionaries (id INTEGER PRIMARY KEY, topic INTEGER NOT NULL UNIQUE, content BLOB NOT NULL);"
COMPRESSED_FROM_BYTES = 1024
_DICTIONARY_AT_MOST_BYTES = 64 * 1024
_PLAIN, _ZSTD, _FIRST_DICTIONARY = 0, 1, 2
_LEVEL = 3


class Packer:
    """Compresses and restores, by what the file holds of dictionaries. Not for two threads at once."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._decompressors = {_ZSTD: zstandard.ZstdDecompressor()}
        self._of_topic: dict[int, tuple[int, zstandard.ZstdCompressor]] = {}

    def packed(self, db: sqlite3.Connection, topic: int, value: bytes) -> tuple[int, bytes]:
        """How it is kept, and what is kept; within the transaction that appends it."""
        if len(value) <= COMPRESSED_FROM_BYTES:
            return _PLAIN, value
        codec, compressor = self._compressing(db, topic, value)
        smaller = compressor.compress(value)
        return (codec, smaller) if len(smaller) < len(value) else (_PLAIN, value)

    def _compressing(self, db: sqlite3.Connection, topic: int, value: bytes) -> tuple[int, zstandard.ZstdCompressor]:
        if topic in self._of_topic:
            return self._of_topic[topic]
        found = db.execute("SELECT id, content FROM dictionaries WHERE topic = ?", (topic,)).fetchone()
        if found is None:
            if len(value) <= _DICTIONARY_AT_MOST_BYTES:
                number = "(SELECT coalesce(max(id) + 1, ?) FROM dictionaries)"
                db.execute(f"INSERT INTO dictionaries VALUES ({number}, ?, ?)", (_FIRST_DICTIONARY, topic, value))  # noqa: S608
            return _ZSTD, self._compressor
        dictionary = zstandard.ZstdCompressionDict(found[1], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        dictionary.precompute_compress(level=_LEVEL)
        self._of_topic[topic] = found[0], zstandard.ZstdCompressor(level=_LEVEL, dict_data=dictionary)
        return self._of_topic[topic]

    def forget(self) -> None:
        """A transaction was rolled back: a dictionary that was found in it may not be there."""
        self._of_topic.clear()
        self._decompressors = {_ZSTD: self._decompressors[_ZSTD]}

    def value(self, db: sqlite3.Connection, codec: int, kept: bytes) -> bytes:
        """The value again; what is kept as it stands where that can't be restored: to its reader it is no record."""
        if codec == _PLAIN:
            return kept
        try:
            return self._decompressor(db, codec).decompress(kept, max_output_size=MAX_RECORD_BYTES)
        except (LookupError, zstandard.ZstdError):
            return kept

    def _decompressor(self, db: sqlite3.Connection, codec: int) -> zstandard.ZstdDecompressor:
        if codec not in self._decompressors:
            found = db.execute("SELECT content FROM dictionaries WHERE id = ?", (codec,)).fetchone()
            if found is None:
                raise LookupError(codec)
            dictionary = zstandard.ZstdCompressionDict(found[0], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
            self._decompressors[codec] = zstandard.ZstdDecompressor(dict_data=dictionary)
        return self._decompressors[codec]


def headers_to(headers: Headers) -> str:
    """Headers as text."""
    return json.dumps([[name, value.decode("latin-1")] for name, value in headers], separators=(",", ":"))


def headers_from(text: str) -> Headers:
    """Headers again."""
    return tuple((name, value.encode("latin-1")) for name, value in json.loads(text))

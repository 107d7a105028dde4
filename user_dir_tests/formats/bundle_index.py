"""Writes the index of a tensor bundle: any index, sound or not, with checksums that match."""

from google_crc32c import value as crc32c

TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
NO_HANDLE = b"\0\0"


def varint(number):
    septets = [number & 0x7F]
    while number := number >> 7:
        septets.append(number & 0x7F)
    return bytes([septet | 0x80 for septet in septets[:-1]] + septets[-1:])


def field(number, value):
    """One field of a protobuf message: a number, or the bytes of a text or message."""
    if isinstance(value, int):
        # Negative numbers stand there as large ones.
        return varint(number << 3) + varint(value % 2**64)
    return varint(number << 3 | 2) + varint(len(value)) + value


def header(shards=1, endianness=0, oldest_reader=0):
    version = field(1, 1) + field(2, oldest_reader)
    return field(1, shards) + field(2, endianness) + field(3, version)


def entry(data=b"", dtype=1, shape=(), shard=0, offset=0, size=None):
    """Where the values ``data`` lie."""
    dimensions = b"".join(field(2, field(1, dimension)) for dimension in shape)
    numbers = (dtype, dimensions, shard, offset, len(data) if size is None else size)
    fields = [field(number, value) for number, value in enumerate(numbers, start=1)]
    return b"".join(fields) + varint(6 << 3 | 5) + masked_checksum(data)


def block(rows):
    """Rows whose keys share nothing."""
    content = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in rows
    )
    # One offset for the binary search, that of the first row.
    return content + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def sealed(content, compression=0):
    content += bytes([compression])
    return content + masked_checksum(content)


def masked_checksum(data):
    crc = crc32c(data)
    turned = (crc >> 15) | (crc << 17) & 0xFFFFFFFF
    return ((turned + 0xA282EAD8) % 2**32).to_bytes(4, "little")


def handles_of(blocks):
    """Of blocks that stand one after another from the first byte on."""
    offset = 0
    for content in blocks:
        yield varint(offset) + varint(len(content))
        offset += len(sealed(content))


def table(blocks, handles=None, compression=0):
    """A whole file; the handles are those of the blocks unless others are given."""
    handles = list(handles_of(blocks)) if handles is None else handles
    body = b"".join(sealed(content, compression) for content in blocks)
    return with_directory(body, block([(b"\xff", handle) for handle in handles]))


def with_directory(body, directory):
    """Blocks, the block that tells where they are, and where that one is."""
    handle = varint(len(body)) + varint(len(directory))
    return body + sealed(directory) + footer(handle)


def footer(handle):
    return (NO_HANDLE + handle).ljust(40, b"\0") + TABLE_MAGIC

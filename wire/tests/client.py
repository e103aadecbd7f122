"""A client of a Butterfly node in nothing but Python's standard library, from wire/FORMAT.md alone.

    python3 wire/tests/client.py 127.0.0.1:7171 wire/samples/logits.safetensors head.f32 10

Pings the node, asks for the K largest entries of each row of the tensor and prints them, then the
node's figures. Ends with 1 and the node's words where it refuses.
"""

import binascii, functools, json, socket, struct, sys

HEADER = struct.Struct(">4sHHQQIHH")  # W2
REQUEST, RESPONSE, HEARTBEAT, ERROR, METRICS = 1, 2, 4, 11, 12
ROOTS = {REQUEST: (128, 3), RESPONSE: (336, 2), ERROR: (48, 1), METRICS: (144, 1)}  # bytes, schema
TOPK, DTYPES = 2, {"F32": 0, "F16": 1, "BF16": 2}
CRC32C = list(range(256))
for _ in range(8):
    CRC32C = [c >> 1 ^ (c & 1) * 0x82F63B78 for c in CRC32C]  # the bits of 0x1EDC6F41 reversed


def need(holds, words):
    holds or sys.exit(f"{sys.argv[0]}: {words}")


def check(before_root, length):  # W20
    step = lambda crc, byte: crc >> 8 ^ CRC32C[(crc ^ byte) & 0xFF]
    return 0 if length < 4096 else 0xFFFFFFFF ^ functools.reduce(step, before_root, 0xFFFFFFFF)


def field(payload, at, form):
    return struct.unpack_from("<" + form, payload, at)[0]


def array(payload, at, size=1):  # W12: the elements, and where they begin
    start, length = at + field(payload, at, "i"), field(payload, at + 4, "I") * size
    need(0 <= start <= start + length <= at, f"the array at {at} leaves the payload")
    return payload[start : start + length], start


def call(stream, kind, number, sent, wanted):  # the answer, and where its root begins
    checksum = binascii.crc_hqx(sent, 0xFFFF)  # W4
    stream.write(HEADER.pack(b"BUTT", 1, kind, number, 0, len(sent), 0, checksum) + sent)
    stream.flush()
    magic, version, kind, got, _, length, packed, crc = HEADER.unpack(stream.read(HEADER.size))
    need((magic, version, got, packed, length >> 30) == (b"BUTT", 1, number, 0, 0), "not the answer")
    answer, (size, schema) = stream.read(length), ROOTS.get(kind, (0, 0))
    need(binascii.crc_hqx(answer, 0xFFFF) == crc and kind in (wanted, ERROR), "not what was asked for")
    if size:
        need(length >= size and field(answer, length - 2, "H") == schema, "another schema")  # W19
        need(field(answer, length - 8, "I") == check(answer[:-size], length), "bad CRC-32C")
    need(kind == wanted, kind == ERROR and array(answer, length - size + 16)[0].decode())  # W48
    return answer, length - size


def topk_request(rows, cols, dtype, data, k):  # W11 to W24: the rows, filled up to 16 bytes; the root
    root, padded = bytearray(128), data + bytes(-len(data) % 16)
    for at in range(24, 80, 8):  # W15: what is empty may lie where the root begins
        struct.pack_into("<iI", root, at, -at, 0)
    struct.pack_into("<iI", root, 0, -len(padded), len(data))
    struct.pack_into("<4I3B", root, 80, 10_000, k, rows, cols, TOPK, DTYPES[dtype], DTYPES["F32"])
    struct.pack_into("<B2xIHH", root, 117, 1, check(padded, len(padded) + 128), 0, 3)  # normal; seal
    return padded + root


def tensor(path, name):  # rows, columns, element type, bytes
    with open(path, "rb") as file:
        about = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))[name]
        return *about["shape"], about["dtype"], file.read()[slice(*about["data_offsets"])]


def main(address, path, name, k):
    stream = socket.create_connection(address.rsplit(":", 1), 30).makefile("rwb")
    need(call(stream, HEARTBEAT, 1, b"", HEARTBEAT)[0] == b"", "no ping")  # W7
    answer, root = call(stream, REQUEST, 2, topk_request(*tensor(path, name), int(k)), RESPONSE)
    column = lambda at, form, size: struct.iter_unpack("<" + form, array(answer, root + at, size)[0])
    columns = map(column, range(0, 40, 8), "IfIff", (4, 1, 4, 4, 4))  # values count in bytes
    indices, values, counts, largest, log_sum = ([x for x, in each] for each in columns)
    for row, count in enumerate(counts):  # W33, W35
        print("row", row, "logsumexp", largest[row] + log_sum[row])
        [print(indices[at], values[at]) for at in range(row * int(k), row * int(k) + count)]
    figures, root = call(stream, METRICS, 3, b"", METRICS)  # W8, W49
    elements, start = array(figures, root + 128, 32)
    for at in range(start, start + len(elements), 32):  # form 0 is a u64, 1 an f64
        name, labels = (array(figures, at + text)[0].decode() for text in (8, 16))
        print("figure", name, labels, field(figures, at, "Qd"[figures[at + 24]]))


main(*sys.argv[1:])

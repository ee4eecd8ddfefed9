"""Writes files into C: embed.py OUTPUT FILE... Each is found by its name (gateway/admin/embedded.h)."""
import pathlib
import sys

output, files = sys.argv[1], [pathlib.Path(name) for name in sys.argv[2:]]
with open(output, "w") as out:
    out.write('#include "gateway/admin/embedded.h"\n#include <string.h>\n\n')
    for i, path in enumerate(files):
        data = path.read_bytes()
        out.write(f"static const unsigned char file_{i}[] = {{\n")
        for at in range(0, len(data), 32):
            out.write("    " + ",".join(str(byte) for byte in data[at:at + 32]) + ",\n")
        out.write("    0};\n")  # a NUL beyond the end
    out.write("\nh2o_iovec_t gw_embedded(const char *name)\n{\n")
    for i, path in enumerate(files):
        out.write(f'    if (strcmp(name, "{path.name}") == 0)\n'
                  f"        return h2o_iovec_init(file_{i}, sizeof(file_{i}) - 1);\n")
    out.write("    return h2o_iovec_init(NULL, 0);\n}\n")

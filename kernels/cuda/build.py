"""Makes the PTX beside the kernels, or checks that it is what the sources give.

    python3 kernels/cuda/build.py [--check | --fetch]

Called by `cargo xtask kernels`. Compiler and assembler come from the Python package index, pinned,
and stay under the target folder; no CUDA toolkit is needed. Exit code 1: something is wrong; 3: the
tools could not be had.
"""

import argparse
import ctypes
import os
import pathlib
import re
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
PTX = HERE / "ptx"
# PTX 8.0: every driver since CUDA 12.0 takes it.
COMPILER = ("nvidia-cuda-nvrtc-cu12", "12.0.140")
ASSEMBLER = ("nvidia-cuda-nvcc-cu12", "12.9.86")
OPTIONS = [
    "--gpu-architecture=compute_80",
    "--std=c++17",
    # Fused operations are written where they are meant; everything else rounds.
    "--fmad=false",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
]
ARCHITECTURES = ["sm_80", "sm_90", "sm_100", "sm_120"]


# What would let the bits differ: the assembler may fuse what does not say how it rounds.
LOOSE = re.compile(r"\b(?:(?:add|sub|mul|mad)\.f(?:32|64)|\w+\.(?:approx|full|ftz)\.\w+)\b")


class Wrong(Exception):
    """The sources do not compile, or not well enough."""


def wheel(package, tools):
    """The folder of an unpacked wheel."""
    name, version = package
    folder = tools / f"{name}-{version}"
    if (folder / "complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    call = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    call += ["--disable-pip-version-check", "--only-binary=:all:"]
    call += ["--platform", "manylinux2014_x86_64", "--platform", "manylinux1_x86_64"]
    call += ["--platform", "manylinux2010_x86_64", "--dest", str(folder), f"{name}=={version}"]
    try:
        subprocess.run(call, check=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"cannot fetch {name} {version}: {error}", file=sys.stderr)
        sys.exit(3)
    for path in folder.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        path.unlink()
    (folder / "complete").touch()
    return folder


class Compiler:
    """NVRTC, by its C interface."""

    def __init__(self, folder):
        library = folder / "nvidia/cuda_nvrtc/lib"
        # The compiler loads this one by name, so it must be there first.
        ctypes.CDLL(str(library / "libnvrtc-builtins.so.12.0"), mode=ctypes.RTLD_GLOBAL)
        self.nvrtc = ctypes.CDLL(str(library / "libnvrtc.so.12"))
        self.nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p

    def ask(self, name, *arguments):
        code = getattr(self.nvrtc, name)(*arguments)
        if code != 0:
            raise Wrong(f"{name}: {self.nvrtc.nvrtcGetErrorString(code).decode()}")

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.ask(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.ask(f"nvrtcGet{what}", program, buffer)
        return buffer.value.decode()

    def ptx(self, source, headers):
        names = (ctypes.c_char_p * len(headers))(*[path.name.encode() for path in headers])
        texts = (ctypes.c_char_p * len(headers))(*[path.read_bytes() for path in headers])
        options = (ctypes.c_char_p * len(OPTIONS))(*[option.encode() for option in OPTIONS])
        program = ctypes.c_void_p()
        self.ask(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            source.read_bytes(),
            source.name.encode(),
            len(headers),
            texts,
            names,
        )
        try:
            self.ask("nvrtcCompileProgram", program, len(OPTIONS), options)
        except Wrong as error:
            log = self.text(program, "ProgramLog")
            raise Wrong(f"{source.name}: {error}\n{log}") from None
        text = self.text(program, "PTX")
        self.ask("nvrtcDestroyProgram", ctypes.byref(program))
        return text.rstrip("\n") + "\n"


def assemble(ptxas, path, architecture):
    """Registers, stack and spills of every kernel."""
    call = [str(ptxas), "-v", f"--gpu-name={architecture}", "--output-file=/dev/null", str(path)]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode != 0:
        raise Wrong(f"{path.name} for {architecture}:\n{done.stderr}")
    found = {}
    kernel = None
    properties = ""
    for line in done.stderr.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = match[1]
        elif match := re.search(r"Function properties for (\S+)", line):
            properties = match[1]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", line):
            if int(match[1]) or int(match[2]):
                raise Wrong(f"{path.name} for {architecture}: {properties}: {line.strip()}")
        elif (match := re.search(r"Used (\d+) registers", line)) and kernel:
            found[kernel] = int(match[1])
            kernel = None
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    parser.add_argument("--fetch", action="store_true", help="only bring the tools")
    target = os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")
    tools = pathlib.Path(target).resolve() / "kernels"
    arguments = parser.parse_args()
    check = arguments.check

    folders = wheel(COMPILER, tools), wheel(ASSEMBLER, tools)
    if arguments.fetch:
        return 0
    compiler = Compiler(folders[0])
    ptxas = folders[1] / "nvidia/cuda_nvcc/bin/ptxas"
    ptxas.chmod(0o755)
    headers = sorted(HERE.glob("*.cuh"))
    PTX.mkdir(exist_ok=True)
    wrong = []
    table = {}
    for source in sorted(HERE.glob("*.cu")):
        path = PTX / f"{source.stem}.ptx"
        try:
            text = compiler.ptx(source, headers)
            if loose := LOOSE.search(text):
                raise Wrong(f"{source.name}: `{loose[0]}` is not rounded in one defined way")
            if not check:
                path.write_text(text)
            elif not path.exists() or path.read_text() != text:
                wrong.append(f"{path.name} is not what {source.name} gives: cargo xtask kernels")
                continue
            for architecture in ARCHITECTURES:
                for kernel, registers in assemble(ptxas, path, architecture).items():
                    table.setdefault(kernel, {})[architecture] = registers
        except Wrong as error:
            wrong.append(str(error))
    print(f"{'registers':<20}" + "".join(f"{name:>8}" for name in ARCHITECTURES))
    for kernel, registers in table.items():
        print(f"{kernel:<20}" + "".join(f"{registers.get(a, ''):>8}" for a in ARCHITECTURES))
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(table)} kernels without spills or stack, {len(wrong)} file(s) wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Plays systemd for the package's test, where none runs: the verbs that maintainer scripts use, by
what the installed unit says. One service, Type=notify, NotifyAccess=all."""
import ctypes, os, pwd, shlex, shutil, signal, socket, subprocess, sys, time

UNIT = "/usr/lib/systemd/system/butterfly.service"
PLACE = "/run/systemd"
NOTIFY, MAIN, MANAGER, LOG = (f"{PLACE}/{name}" for name in ("notify", "main", "manager", "heard"))
PATIENCE = 60


def unit(key):
    """The last value of a key, or None."""
    value = None
    for line in open(UNIT):
        name, found, rest = line.strip().partition("=")
        if found and name == key:
            value = rest
    return value


def number(path):
    try:
        return int(open(path).read())
    except (OSError, ValueError):
        return None


def lives(pid):
    try:
        return pid is not None and open(f"/proc/{pid}/stat").read().split(") ")[1][0] != "Z"
    except OSError:
        return False


def until(holds, what):
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"systemctl of the test: {what}")
        time.sleep(0.02)


def as_user(line):
    """Runs a line of the unit as its user, with what systemd gives to a process of a service."""
    user = pwd.getpwnam(unit("User"))

    def drop():
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        os.umask(int(unit("UMask"), 8))
        # NoNewPrivileges=, as in the unit.
        assert unit("NoNewPrivileges") == "yes"
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)

    out = open(f"{PLACE}/journal", "a")
    environment = {"NOTIFY_SOCKET": NOTIFY, "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(shlex.split(line), preexec_fn=drop, env=environment,
                            cwd=unit("WorkingDirectory"), stdout=out, stderr=out)


def manage():
    """What PID 1 does: starts the process, hears who speaks for the service, takes up orphans."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, lambda *_: reap())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(NOTIFY)
    os.chmod(NOTIFY, 0o666)
    child = as_user(unit("ExecStart"))
    open(f"{PLACE}/first", "w").write(str(child.pid))
    main = child.pid
    while True:
        text = listener.recv(4096).decode()
        open(LOG, "a").write(text + "\n\n")
        for line in text.splitlines():
            name, _, value = line.partition("=")
            main = int(value) if name == "MAINPID" else main
        if "READY=1" in text.splitlines():
            open(MAIN, "w").write(str(main))


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def start():
    if lives(number(MAIN)):
        return
    user = pwd.getpwnam(unit("User"))
    for key, base in (("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")):
        path = f"{base}/{unit(key)}"
        os.makedirs(path, exist_ok=True)
        os.chown(path, user.pw_uid, user.pw_gid)
        os.chmod(path, int(unit(key + "Mode"), 8))
    pid = os.fork()
    if pid == 0:
        os.setsid()
        quiet = open(f"{PLACE}/manager-says", "a")
        for stream in (1, 2):
            os.dup2(quiet.fileno(), stream)
        manage()
    open(MANAGER, "w").write(str(pid))
    until(lambda: lives(number(MAIN)), "the service does not become ready")


def stop():
    main = number(MAIN)
    if lives(main):
        os.kill(main, signal.SIGTERM)
        until(lambda: not lives(main), "the service does not end")
    manager = number(MANAGER)
    if lives(manager):
        os.kill(manager, signal.SIGKILL)
    shutil.rmtree(f"/run/{unit('RuntimeDirectory')}", ignore_errors=True)
    for path in (NOTIFY, MAIN, MANAGER):
        if os.path.exists(path):
            os.unlink(path)


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    verb = words[0] if words else ""
    if verb == "daemon-reload":
        return 0
    wanted = f"/etc/systemd/system/{unit('WantedBy')}.wants/butterfly.service"
    if verb == "preset":
        os.makedirs(os.path.dirname(wanted), exist_ok=True)
        os.path.lexists(wanted) or os.symlink(UNIT, wanted)
        return 0
    if verb == "is-enabled":
        print("enabled" if os.path.lexists(wanted) else "disabled")
        return 0
    if verb == "is-active":
        return 0 if lives(number(MAIN)) else 3
    if verb == "reload":
        return as_user(unit("ExecReload")).wait(PATIENCE)
    if verb in ("start", "stop"):
        {"start": start, "stop": stop}[verb]()
        return 0
    print(f"systemctl of the test: {sys.argv[1:]}", file=sys.stderr)
    return 1


sys.exit(main())

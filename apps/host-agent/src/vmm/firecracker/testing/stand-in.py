#!/usr/bin/env python3
"""Firecracker and its jailer for tests on any machine: a jail, an API, and memory by a real userfaultfd. No guest runs.

It says on its console the SHA-256 of the memory that it was given. Each boot adds a byte to the file `boots` of the
directory that it was started in; while that directory has a file `dies`, a machine that is booted takes it and ends; with a directory of that name each does.
A change of such a machine finds it gone. One whose kernel is empty hangs, and says nothing.
"""
import array, ctypes, fcntl, hashlib, http.server, json, mmap, os, socket, socketserver, struct, sys, threading

VERSION = "1.12.1"
UFFD_USER_MODE_ONLY, UFFD_API = 1, 0xAA
UFFDIO_API, UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
SYS_userfaultfd = 323
state = {"vm": "Not started", "kept": []}
# Loaded before there is no file of Python's any more.
"".encode("iso-8859-1"), "".encode("latin-1")


def main(args):
    if "--version" in args:
        name = "Jailer" if os.path.basename(sys.argv[0]) == "jailer" else "Firecracker"
        print(f"{name} v{VERSION}")
        return
    if "--snapshot-version" in args:
        print("v6.0.0")
        return
    value = lambda name: args[args.index(name) + 1]
    state["cwd"] = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    jail = os.path.join(value("--chroot-base-dir"), "firecracker", value("--id"), "root")
    uid = int(value("--uid"))
    os.chown(jail, uid, uid)
    if os.path.exists(os.path.join(jail, "rootfs")):
        os.chown(os.path.join(jail, "rootfs"), uid, uid)
    os.chroot(jail)
    os.chdir("/")
    os.setgid(uid)
    os.setuid(uid)
    Server(value("--api-sock"), Api).serve_forever()


def say(text):
    os.write(1, (text + "\n").encode())


def leave(code):
    os._exit(code)


def boot():
    # A directory that is root's is one of a trial.
    if os.access(".", os.W_OK, dir_fd=state["cwd"]):
        file = os.open("boots", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600, dir_fd=state["cwd"])
        os.write(file, b"+")
        os.close(file)
    if os.stat("kernel").st_size == 0:
        state["vm"] = "Running"
        return
    code = 0
    try:
        os.unlink("dies", dir_fd=state["cwd"])
    except IsADirectoryError:
        code = 3
    except (FileNotFoundError, PermissionError):
        say("Run /init as init process")
        say("guest is up")
        state["vm"] = "Running"
        return
    state["leaves"] = code
    # The answer goes out first, as it does with Firecracker.
    threading.Timer(0.2, leave, [code]).start()


def load(body):
    with open(body["snapshot_path"], "rb") as file:
        wanted = json.load(file)
    backend = body["mem_backend"]
    if backend["backend_type"] == "File":
        with open(backend["backend_path"], "rb") as file:
            memory = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    else:
        memory = served(backend["backend_path"], wanted["bytes"])
    state["kept"].append(memory)
    state["memory"] = memory
    state["vm"] = "Paused"


def served(path, size):
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    uffd = libc.syscall(SYS_userfaultfd, os.O_CLOEXEC | os.O_NONBLOCK | UFFD_USER_MODE_ONLY)
    if uffd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    fcntl.ioctl(uffd, UFFDIO_API, bytearray(struct.pack("QQQ", UFFD_API, 0, 0)))
    fcntl.ioctl(uffd, UFFDIO_REGISTER, bytearray(struct.pack("QQQQ", address, size, 1, 0)))
    pager = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    pager.connect(path)
    region = {"base_host_virt_addr": address, "size": size, "offset": 0, "page_size": 4096, "page_size_kib": 4096}
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [uffd]))
    pager.sendmsg([json.dumps([region]).encode()], [rights])
    state["kept"] += [pager, uffd]
    return memory


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        request, _ = super().get_request()
        return request, ("local", 0)


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            self.answer(*(route(self.command, self.path, body) or (204,)))
        except Exception as error:
            self.answer(400, {"fault_message": f"{error}"})
            # A load that fails ends the process.
            threading.Timer(0.1, leave, [1]).start()

    do_GET = do_PUT = do_PATCH = do


def route(method, path, body):
    if (method, path) == ("GET", "/"):
        return 200, {"state": state["vm"]}
    if (method, path) == ("GET", "/machine-config"):
        return 200, {"mem_size_mib": 1}
    if path == "/metrics":
        state["metrics"] = os.open(body["metrics_path"], os.O_RDWR | os.O_NONBLOCK)
    if path == "/actions" and body.get("action_type") == "FlushMetrics":
        os.write(state["metrics"], (json.dumps({"block": {"read_bytes": 7}}) + "\n").encode())
    if path == "/actions" and body.get("action_type") == "InstanceStart":
        boot()
    if path == "/snapshot/load":
        load(body)
    if method == "PATCH" and path.startswith(("/drives/", "/network-interfaces/")):
        if "leaves" in state:
            leave(state["leaves"])
        say(f"limits {json.dumps(body)}")
    if path == "/vm":
        state["vm"] = {"Paused": "Paused", "Resumed": "Running"}[body["state"]]
        if body["state"] == "Resumed":
            # A page that nobody serves must not hold up the API.
            threading.Thread(target=lambda: say(hashlib.sha256(bytes(state["memory"])).hexdigest()), daemon=True).start()


main(sys.argv[1:])

"""A container engine without containers: what ECS would run in Docker runs as a process of this machine.

It answers the calls MiniStack makes of Docker's Python client, so that MiniStack's ECS goes through its real life of a
task: image pulled from the registry by digest, started, watched, exited, replaced. Each container gets an address of
its own in 127.0.0.0/8, handed to it as `HOST`; a program that listens there can be reached as in a VPC. Nothing is
isolated: it is for images that tests build, statically linked, with `FROM scratch` in mind.
"""

import io
import itertools
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
import uuid

from docker.errors import APIError, ImageNotFound, NotFound
from ministack.services import ecr

logger = logging.getLogger("local-cloud")

# How often it is looked how much memory each container has.
WEIGH_SECONDS = 0.2

DATABASE = re.compile(r"[\w.-]+\.rds\.amazonaws\.com")


class Engine:
    """The part of `docker.DockerClient` that MiniStack's ECS uses."""

    def __init__(self, directory, network):
        self.directory = directory
        self.images = Images(os.path.join(directory, "images"))
        self.containers = Containers(self.images, os.path.join(directory, "containers"), network)


class Image:
    """An image unpacked into a directory."""

    def __init__(self, digest, root, config):
        self.id, self.root, self.config = digest, root, config
        self.attrs = {"RepoDigests": [digest]}

    def tag(self, repository, tag=None):
        return True


class Images:
    """Images of MiniStack's own ECR, whatever registry host they are named with."""

    def __init__(self, directory):
        self.directory = directory
        self.unpacked = {}
        self.lock = threading.Lock()

    def get_registry_data(self, name, **_):
        digest, _manifest = find(name)
        return type("RegistryData", (), {"id": digest})()

    def pull(self, name, **_):
        return self.get(name)

    def get(self, name):
        digest, manifest = find(name)
        repository = _repository(name)
        with self.lock:
            if digest not in self.unpacked:
                self.unpacked[digest] = self._unpack(repository, digest, manifest)
            return self.unpacked[digest]

    def _unpack(self, repository, digest, manifest):
        blobs = ecr._layer_blobs.get(repository, {})
        root = os.path.join(self.directory, digest.replace(":", "-"))
        shutil.rmtree(root, ignore_errors=True)
        os.makedirs(root)
        for part in [manifest["config"], *manifest["layers"]]:
            if part["digest"] not in blobs:
                raise ImageNotFound(f"blob {part['digest']} of {repository}@{digest} not found")
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(blobs[layer["digest"]])) as archive:
                _extract(archive, root)
        return Image(digest, root, json.loads(blobs[manifest["config"]["digest"]]).get("config", {}))


def find(name):
    """The digest and the manifest of the image that runs here, of one in MiniStack's ECR."""
    repository = _repository(name)
    _, _, digest = name.partition("@")
    reference = digest or (name.rsplit(":", 1)[1] if ":" in name.rsplit("/", 1)[-1] else "latest")
    found, raw, _type = ecr._resolve_manifest(repository, reference)
    if found is None:
        raise ImageNotFound(f"manifest for {name} not found: manifest unknown")
    manifest = json.loads(raw)
    for child in manifest.get("manifests", []):
        platform = child.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return child["digest"], json.loads(ecr._manifest_blobs[repository][child["digest"]])
    if "layers" not in manifest:
        raise ImageNotFound(f"no matching manifest for linux/amd64 in {name}")
    return found, manifest


def _extract(archive, root):
    if hasattr(tarfile, "tar_filter"):
        archive.extractall(root, filter="tar")
        return
    # Python 3.11 before its fourth release, which Debian 12 has, knows no filters.
    for member in archive.getmembers():
        path = os.path.normpath(os.path.join(root, member.name))
        if os.path.isabs(member.name) or os.path.commonpath([root, path]) != root or member.issym() or member.islnk():
            raise APIError(f"the layer's entry {member.name} is not taken")
    archive.extractall(root)


class Containers:
    """The containers that ran or run."""

    def __init__(self, images, directory, network):
        self.images, self.directory, self.network = images, directory, network
        self.known = {}
        self.addresses = itertools.count(2)
        threading.Thread(target=self._weigh_forever, daemon=True, name="local-cloud-memory").start()

    def _weigh_forever(self):
        while True:
            time.sleep(WEIGH_SECONDS)
            for container in list(self.known.values()):
                container.weigh()

    def run(self, image, command=None, *, entrypoint=None, environment=None, labels=None, name=None, mem_limit=None, **_):
        unpacked = self.images.get(image)
        number = next(self.addresses)
        address = f"{self.network}.{1 + number % 254}"
        limit = int(mem_limit.removesuffix("m")) << 20 if mem_limit else None
        container = Container(unpacked, image, name, labels or {}, address, limit, self.directory)
        # No container has this address.
        database = f"{self.network}.255"
        container.start(entrypoint, command, {k: DATABASE.sub(database, v) for k, v in (environment or {}).items()})
        self.known[container.id] = container
        return container

    def get(self, identity):
        container = self.known.get(identity) if identity else None
        if container is None:
            raise NotFound(f"No such container: {identity}")
        return container

    def list(self, all=False, filters=None, **_):
        return [c for c in self.known.values() if all or c.running()]


class Container:
    """One process and its output."""

    def __init__(self, image, image_name, name, labels, address, memory, directory):
        self.id = uuid.uuid4().hex * 2
        self.image, self.image_name, self.name, self.labels, self.address = image, image_name, name, labels, address
        self.memory, self.too_large = memory, False
        self.status, self.process = "created", None
        os.makedirs(directory, exist_ok=True)
        self.output = os.path.join(directory, f"{self.id[:12]}.log")

    @property
    def attrs(self):
        return {
            "Id": self.id,
            "Config": {"Labels": self.labels, "Image": self.image_name},
            "State": {"Status": self.status, "OOMKilled": self.too_large},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": self.address}}},
        }

    def start(self, entrypoint, command, environment):
        config = self.image.config
        env = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
        env.update({k: v.replace("host.docker.internal", "127.0.0.1") for k, v in environment.items()})
        env["HOST"] = self.address
        if isinstance(command, str):
            command = [command]
        # Who names an entry point does not get the image's command.
        arguments = entrypoint + (command or []) if entrypoint else (
            (config.get("Entrypoint") or []) + (command or config.get("Cmd") or []))
        if not arguments:
            raise APIError("no command specified")
        program = self._program(arguments[0], env.get("PATH", "/usr/local/bin:/usr/bin:/bin"))
        directory = self.image.root + (config.get("WorkingDir") or "/")
        try:
            with open(self.output, "wb") as output:
                self.process = subprocess.Popen(
                    [program, *arguments[1:]], env=env, cwd=directory,
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        except OSError as error:
            raise APIError(f"failed to start {arguments[0]}: {error}") from error
        self.status = "running"

    def _program(self, name, path):
        candidates = [name] if "/" in name else [f"{directory}/{name}" for directory in path.split(":")]
        for candidate in candidates:
            inside = os.path.join(self.image.root, candidate.lstrip("/"))
            if os.access(inside, os.X_OK):
                return inside
        raise APIError(f'exec: "{name}": executable file not found in image')

    def weigh(self):
        """Kills the process where it has more memory than it may."""
        if not self.memory or not self.running():
            return
        try:
            with open(f"/proc/{self.process.pid}/statm") as told:
                resident = int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            # It has ended meanwhile.
            return
        if resident > self.memory:
            self.too_large = True
            self.process.kill()

    def running(self):
        return self.process is not None and self.process.poll() is None

    def reload(self):
        self.status = "running" if self.running() else "exited"

    def wait(self, **_):
        code = self.process.wait()
        return {"StatusCode": code if code >= 0 else 128 - code}

    def stop(self, timeout=10, **_):
        if self.running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def remove(self, **_):
        if self.running():
            self.process.kill()
            self.process.wait()

    def logs(self, stream=False, follow=False, tail=None, **_):
        if stream:
            return self._stream(follow)
        with open(self.output, "rb") as output:
            text = output.read()
        return b"".join(text.splitlines(keepends=True)[-tail:]) if isinstance(tail, int) else text

    def _stream(self, follow):
        with open(self.output, "rb") as output:
            rest = b""
            while True:
                running = self.running()
                read = output.read()
                rest += read
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    yield line + b"\n"
                if not read and not (follow and running):
                    break
                if not read:
                    time.sleep(0.1)
            if rest:
                yield rest


def path(name):
    """An image's name without its registry: `localhost:4566/team/api:1` → `team/api:1`, `team/api@sha256:…` as it is."""
    first, slash, rest = name.partition("/")
    return rest if slash and ("." in first or ":" in first or first == "localhost") else name


def _repository(name):
    """`localhost:4566/team/api@sha256:…` and `123.dkr.ecr.us-east-1.amazonaws.com/team/api:1` → `team/api`."""
    head, _, last = path(name.partition("@")[0]).rpartition("/")
    last = last.partition(":")[0]
    return f"{head}/{last}" if head else last

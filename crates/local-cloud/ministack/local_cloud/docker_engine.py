"""Docker, with every image from MiniStack's own registry, whatever registry its name is of: nothing here reaches a public one.

The engine may be a person's own, so a stand-in must never get the name of the public image that it stands in for: Docker only hears
the names in our registry.
"""

import docker

from local_cloud import processes


def client(host, registry):
    """The part of `docker.DockerClient` that MiniStack's ECS uses, for the engine at a host and our registry's address."""
    return Engine(docker.DockerClient(base_url=host, timeout=60), registry)


class Engine:
    def __init__(self, engine, registry):
        def ours(name):
            return f"{registry}/{processes.path(name)}"

        self.images = Images(engine.images, ours)
        self.containers = Containers(engine.containers, ours)
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)


class Images:
    def __init__(self, images, ours):
        self._images, self._ours = images, ours

    def get_registry_data(self, name, **options):
        return self._images.get_registry_data(self._ours(name), **options)

    def pull(self, name, **options):
        # An engine asks no registry for what it has pulled by the same digest before; what is gone from ECR is gone for ECS.
        processes.find(name)
        return Image(self._images.pull(self._ours(name), **options), self._ours)

    def get(self, name):
        return Image(self._images.get(self._ours(name)), self._ours)


class Image:
    def __init__(self, image, ours):
        self._image, self._ours = image, ours

    def tag(self, repository, **options):
        return self._image.tag(self._ours(repository), **options)

    def __getattr__(self, name):
        return getattr(self._image, name)


class Containers:
    def __init__(self, containers, ours):
        self._containers, self._ours = containers, ours

    def run(self, image, *arguments, **options):
        return self._containers.run(self._ours(image), *arguments, **options)

    def __getattr__(self, name):
        return getattr(self._containers, name)

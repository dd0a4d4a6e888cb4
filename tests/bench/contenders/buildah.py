"""buildah build and push, in a storage of its own."""

import shutil

from tests.bench.contenders import docker_build
from tests.bench.contenders.ground import Failed, Ground, run
from tests.bench.contenders.samples import Case


class Buildah(docker_build.Docker):
    name = "buildah build + push"
    note = "Storage driver overlay, isolation chroot, the Dockerfile of docker build with its best order."

    @classmethod
    def unavailable(cls, ground: Ground) -> str:
        if shutil.which("buildah") is None:
            return "there is no buildah. On Debian: apt-get install buildah"
        try:
            run([*_program(ground), "from", "--tls-verify=false", ground.base], env=ground.environment)
            run([*_program(ground), "rm", "--all"], env=ground.environment)
        except Failed as error:
            return f"it does not start here: {error}"
        return ""

    def ship(self, case: Case, tag: str) -> str:
        image = f"{self.ground.pushes.host}/{self.folder.name}:{tag}"
        options = ["--isolation=chroot", "--layers", "--tls-verify=false", "-q", "-t", image, "."]
        self._buildah("build", *options)
        self._buildah("push", "--tls-verify=false", "-q", image)
        return image

    def close(self) -> None:
        self._buildah("rmi", "--all", "--force")

    def _buildah(self, *arguments: str) -> None:
        login = self.ground.folder / "login" / "config.json"
        command = [*_program(self.ground), *arguments]
        self.ground.run(command, cwd=self.folder, REGISTRY_AUTH_FILE=str(login))


def _program(ground: Ground) -> list[str]:
    place = ground.folder / "buildah"
    return ["buildah", "--storage-driver=overlay", f"--root={place / 'root'}", f"--runroot={place / 'run'}"]

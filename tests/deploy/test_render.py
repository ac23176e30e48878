"""Where `deploy/render.sh` takes kustomize from."""

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
PRINTS = """#!/bin/sh
case "$*" in
{cases}
*) echo "{name} $*" ;;
esac
"""


class Machine:
    """A machine with nothing on PATH but what a test puts there, and a copy of the script."""

    def __init__(self, folder: Path) -> None:
        self.deploy = folder / "deploy"
        self.path = folder / "path"
        self.deploy.mkdir()
        self.path.mkdir()
        shutil.copy(DEPLOY / "render.sh", self.deploy)
        for name in ("dirname", "grep", "tail", "sh"):
            (self.path / name).symlink_to(str(shutil.which(name)))

    def has(self, name: str, answers: dict[str, str] | None = None, folder: Path | None = None) -> None:
        """A program that answers some arguments as told, and says how it was called otherwise."""
        cases = "\n".join(f"'{arguments}') {answer} ;;" for arguments, answer in (answers or {}).items())
        program = (folder or self.path) / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(PRINTS.format(cases=cases, name=name))
        program.chmod(0o755)

    def render(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = [str(self.deploy / "render.sh"), *arguments]
        return subprocess.run(script, capture_output=True, text=True, env={"PATH": str(self.path)}, timeout=30)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def kubectl(kustomize: str) -> dict[str, str]:
    return {"version --client -o json": f"""echo '{{"kustomizeVersion": "{kustomize}"}}'"""}


def test_kustomize_5_on_path_comes_first(machine: Machine) -> None:
    machine.has("kustomize", {"version": "echo v5.8.2"})
    machine.has("kubectl", kubectl("v5.5.0"))
    assert machine.render("some/folder").stdout == "kustomize build some/folder\n"


def test_an_old_kustomize_gives_way_to_a_new_kubectl(machine: Machine) -> None:
    machine.has("kustomize", {"version": "echo v3.2.0"})
    machine.has("kubectl", kubectl("v5.5.0"))
    assert machine.render("some/folder").stdout == "kubectl kustomize some/folder\n"


def test_one_that_was_installed_before_is_used(machine: Machine) -> None:
    machine.has("kubectl", {"version --client -o json": "echo '{}'"})
    machine.has("kustomize", folder=machine.deploy / "bin")
    assert machine.render("some/folder").stdout == "kustomize build some/folder\n"


def test_go_installs_a_fixed_version_beside_the_script(machine: Machine) -> None:
    made = "printf '#!/bin/sh\\necho built $*\\n' > $GOBIN/kustomize; /bin/chmod 755 $GOBIN/kustomize"
    machine.has("go", {"install sigs.k8s.io/kustomize/kustomize/v5@v5.8.2": f"/bin/mkdir $GOBIN; {made}"})
    done = machine.render("some/folder")
    assert done.stdout == "built build some/folder\n"
    assert (machine.deploy / "bin" / "kustomize").exists()


def test_go_without_a_network_ends_in_one_line_with_its_reason(machine: Machine) -> None:
    machine.has("go", {"install sigs.k8s.io/kustomize/kustomize/v5@v5.8.2": "echo no route to host >&2; exit 1"})
    done = machine.render("some/folder")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("(go install: no route to host)")


def test_a_machine_with_nothing_is_told_in_one_line_what_to_install(machine: Machine) -> None:
    done = machine.render("some/folder")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "install kustomize, kubectl 1.27 or newer, or Go" in line


def test_without_a_folder_it_says_how_it_is_called(machine: Machine) -> None:
    done = machine.render()
    assert (done.returncode, done.stderr) == (2, "usage: deploy/render.sh FOLDER\n")

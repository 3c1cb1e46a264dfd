"""Other languages: what docs/other-languages.md says generates code, without a network."""

import os
import re
import shutil
import subprocess

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from stepup_tests.e2e.processes import PROGRAMS
from stepup_tests.places import ROOT

from tools.buf_module import write_module

DOCUMENT = (ROOT / "docs" / "other-languages.md").read_text()
PLAIN, MANAGED = re.findall(r"```yaml\n(# buf\.gen\.yaml\n.*?)```", DOCUMENT, re.DOTALL)
OLDEST_PROTOC = 22  # the first one that knows debug_redact


def buf(directory, *arguments):
    """Run buf where no proxy lets it reach a network, and no cache helps."""
    offline = {"BUF_CACHE_DIR": str(directory / "cache"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        [PROGRAMS / "buf", *arguments],
        cwd=directory,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def module(tmp_path):
    write_module(tmp_path / "module")
    return tmp_path / "module"


def generated(module, template):
    (module.parent / "buf.gen.yaml").write_text(template)
    buf(module.parent, "generate", "module", "--path", "module/stepup")
    return module.parent / "gen"


def demand(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}: install it, or Debian's package of that name")


def protoc_version():
    demand("protoc")
    said = subprocess.run(["protoc", "--version"], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[-1].split(".")[-2])  # "libprotoc 3.21.12", "libprotoc 35.1"


def builtin(language):
    return f"version: v2\nplugins:\n  - protoc_builtin: {language}\n    out: gen\n"


def test_the_module_builds_alone_and_has_the_errors_and_the_documented_names(module):
    buf(module, "build", "--output", "all.binpb")
    files = FileDescriptorSet.FromString((module / "all.binpb").read_bytes()).file
    assert {"google/rpc/error_details.proto", "google/rpc/status.proto"} <= {f.name for f in files}
    ours = [file.options for file in files if file.package == "stepup.v1"]
    assert len(ours) == len(list((ROOT / "protos/stepup/v1").glob("*.proto")))
    for options in ours:
        assert options.java_multiple_files
        for name in (options.go_package, options.java_package, options.csharp_namespace):
            assert f"| `{name}` |" in DOCUMENT


def test_a_module_is_not_written_over_other_files(module):
    with pytest.raises(FileExistsError, match="is not empty"):
        write_module(module)


def test_the_documented_template_generates_go(module):
    demand("protoc-gen-go", "protoc-gen-go-grpc")
    gen = generated(module, PLAIN)
    stubs = gen / "stepup-authz/stepup/v1/step_up_service_grpc.pb.go"
    assert "\npackage stepupv1\n" in stubs.read_text()


def test_managed_mode_gives_go_a_package_of_the_users(module):
    demand("protoc-gen-go")
    gen = generated(module, MANAGED)
    assert (gen / "corp.example/platform/gen/stepup/v1/step_up_service.pb.go").is_file()


def test_csharp_is_generated_in_its_namespace(module):
    demand("protoc")
    gen = generated(module, builtin("csharp"))
    assert "\nnamespace StepUp.V1 {" in (gen / "StepUpService.cs").read_text()


def test_java_is_generated_with_a_file_for_each_class(module):
    if (version := protoc_version()) < OLDEST_PROTOC:
        pytest.skip(f"protoc {version} cannot generate Java: {OLDEST_PROTOC} and newer can")
    gen = generated(module, builtin("java"))
    assert "\npackage stepup.v1;\n" in (gen / "stepup/v1/CheckStepUpRequest.java").read_text()

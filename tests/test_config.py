import os
import tomllib
from pathlib import Path

import pytest

from streammeta.config import Settings, example, load
from streammeta.errors import ConfigError

EXAMPLE = Path(__file__).parents[1] / "deploy" / "streammeta.toml"


@pytest.fixture(autouse=True)
def _no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("STREAMMETA_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "streammeta.toml"


def problems(file: Path | None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file)
    return str(caught.value).splitlines()


def test_without_a_file_all_settings_have_defaults() -> None:
    """`streammeta run` with a broker on this machine needs no configuration."""
    settings = load()

    assert (settings.app.name, settings.input.topic, settings.http.port) == ("streammeta", "events", 9464)
    assert settings.engine().kind == "classification"


def test_environment_wins_over_the_file_and_the_file_over_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers get one file for all and a few variables each."""
    file.write_text('[app]\nname = "shop"\nseed = 3\n[input]\ntask_from = "key"\n')
    monkeypatch.setenv("STREAMMETA_APP__SEED", "7")
    monkeypatch.setenv("STREAMMETA_META__MODE", "sync")
    monkeypatch.setenv("STREAMMETA_STATE__EVERY_SECONDS", "0.5")

    settings = load(file)

    assert (settings.app.name, settings.app.seed, settings.input.task_from) == ("shop", 7, "key")
    assert (settings.engine().seed, settings.engine().meta.mode) == (7, "sync")
    assert settings.state.every_seconds == 0.5


def test_every_problem_is_a_line_that_says_which_key_what_came_and_what_was_wanted(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once: nobody should start a service five times to find five mistakes."""
    file.write_text('[app]\nkind = "regresion"\n[http]\nport = 99999\n[input]\nmax_pol_records = 5\n')
    monkeypatch.setenv("STREAMMETA_LOG__LEVEL", "loud")

    assert sorted(problems(file)) == sorted(
        [
            f"{file}: [app] kind: got 'regresion', wanted 'classification', 'regression' or 'decision'",
            f"{file}: [http] port: got 99999, wanted less than or equal to 65535",
            f"{file}: [input] max_pol_records: no such setting; did you mean max_poll_records?",
            "environment STREAMMETA_LOG__LEVEL: [log] level: got 'loud', wanted 'debug', 'info', 'warning' or 'error'",
        ]
    )


def test_unknown_sections_are_refused_with_the_nearest(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt section would otherwise be a setting silently not made."""
    file.write_text('topic = "sales"\n[lerner]\nhidden = 3\n')
    monkeypatch.setenv("STREAMMETA_HTTPS__PORT", "1")

    assert problems(file) == [
        f"{file}: [topic]: no such section; did you mean [input] topic or [labels] topic?",
        f"{file}: [lerner]: no such section; did you mean learner?",
        "environment STREAMMETA_HTTPS__PORT: no such section; did you mean http?",
    ]


def test_a_misspelt_section_hides_no_other_mistake(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever mends one and starts again to see the next, starts as often as there are mistakes."""
    file.write_text('[lerner]\nhidden = 3\n[memory]\nwindow = 2\n[app]\nnam = "a"\n')
    monkeypatch.setenv("STREAMMETA_APP_KIND", "regression")

    assert problems(file) == [
        f"{file}: [lerner]: no such section; did you mean learner?",
        "environment STREAMMETA_APP_KIND: is no setting; did you mean STREAMMETA_APP__KIND?",
        f"{file}: [app] nam: no such setting; did you mean name?",
        f"{file}: [memory] window: got 2, wanted greater than or equal to 8",
    ]


def test_variables_that_kubernetes_sets_for_a_service_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service named streammeta puts STREAMMETA_PORT into every container of the namespace."""
    monkeypatch.setenv("STREAMMETA_PORT", "tcp://10.0.0.1:9464")
    monkeypatch.setenv("STREAMMETA_SERVICE_HOST", "10.0.0.1")

    assert load() == Settings()


def test_a_file_that_begins_with_a_byte_order_mark_is_read(file: Path) -> None:
    """Windows' editors write one, which no editor shows; the file was "not TOML" in its first column."""
    file.write_text('[app]\nname = "shop"\n', "utf-8-sig")

    assert load(file).app.name == "shop"


def test_malformed_toml_names_the_line(file: Path) -> None:
    """The first thing one wants to know."""
    file.write_text("[app]\nname = \n")

    (line,) = problems(file)

    assert line.startswith(f"{file}: not TOML: ")
    assert "line 2" in line


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_is_missing_or_not_text_is_told(file: Path, content: bytes | None) -> None:
    """Never start with defaults because the file had another name."""
    if content is not None:
        file.write_bytes(content)

    (line,) = problems(file)

    assert line.startswith(f"{file}: ")
    assert "wanted a TOML file" in line


def test_a_section_in_the_environment_that_is_not_json_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole section as JSON is allowed; half of it is not."""
    monkeypatch.setenv("STREAMMETA_APP", "{name")

    (line,) = problems(None)

    assert line.startswith("environment: ")
    assert '"app"' in line


def test_secrets_are_in_no_message(file: Path) -> None:
    """Error messages end up in logs, and logs in other hands."""
    typed = "hunter2-hunter2"
    names = [name for name in Settings().kafka.__class__.model_fields if "password" in name]
    assert names

    for name in names:
        file.write_text(f"[kafka]\n{name} = [{typed!r}]\n")
        assert typed not in "\n".join(problems(file))


def test_example_has_every_setting_with_its_default() -> None:
    """An example that lags behind the code teaches settings that are refused."""
    lines = [
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in example().splitlines()
    ]

    settings = Settings(**tomllib.loads("\n".join(line for line in lines if not line.endswith("="))))

    assert settings == Settings()
    for section, model in Settings():
        assert f"[{section}]" in example()
        for name in type(model).model_fields:
            assert f"\n#{name} =" in example() or f"[{section}.{name}]" in example()


def test_the_deployed_example_is_the_printed_one() -> None:
    """Make it again with `streammeta config > deploy/streammeta.toml`."""
    assert EXAMPLE.read_text("utf-8") == example()


def test_every_setting_has_a_description() -> None:
    """The example is the reference; a setting without a word is one nobody dares to touch."""
    for _, model in Settings():
        for name, field in type(model).model_fields.items():
            assert field.description, f"{type(model).__name__}.{name}"


@pytest.mark.parametrize("name", ["fraud/eu", "frau d", "", "-fraud", "x" * 201, "fräud", "fraud\n"])
def test_a_name_that_topics_or_transactional_ids_cannot_hold_is_refused_with_the_characters(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with the separator of transactional ids could end another application's transactions."""
    monkeypatch.setenv("STREAMMETA_APP__NAME", name)

    (problem,) = problems(None)

    assert problem.startswith("environment STREAMMETA_APP__NAME: [app] name: got ")
    assert "wanted 1 to 200 of the characters a-z, A-Z, 0-9, '.', '_' and '-'" in problem


@pytest.mark.parametrize("variable", ["APP__NAME", "KAFKA__GROUP_ID"])
def test_a_name_that_is_another_applications_repartition_group_is_refused(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fraud` with repartition reads in the group `fraud-repartition`: two readers of other topics would share it."""
    monkeypatch.setenv(f"STREAMMETA_{variable}", "fraud-repartition")

    (problem,) = problems(None)

    assert "wanted a name that does not end with '-repartition'" in problem


def test_a_variable_that_lacks_an_underscore_is_said_but_not_one_of_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    """STREAMMETA_APP_KIND would be passed over in silence, and the service would predict something else."""
    monkeypatch.setenv("STREAMMETA_HTTP_PORT", "tcp://10.0.0.1:80")  # of a Service called streammeta-http
    monkeypatch.setenv("STREAMMETA_PORT", "tcp://10.0.0.1:9464")
    load()
    monkeypatch.setenv("STREAMMETA_APP_KIND", "regression")

    with pytest.raises(ConfigError, match="STREAMMETA_APP_KIND: is no setting; did you mean STREAMMETA_APP__KIND"):
        load()

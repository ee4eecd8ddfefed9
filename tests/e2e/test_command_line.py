"""The command line itself: what `weir` says of its commands, and of command lines that it does not understand. What the commands do is
in the files named after them."""
import re

import pytest

from command import weir

COMMANDS = ["run", "check", "explain", "test", "diff", "replay", "import", "reload", "upgrade", "status", "top", "tail", "target", "reason",
            "schema", "help", "version"]


def test_the_list_of_commands_names_them_all():
    done = weir("--help")
    assert done.returncode == 0 and not done.stderr
    assert re.findall(r"^  (\w+) ", done.stdout, re.M) == COMMANDS


def test_without_a_command_the_list_is_an_error():
    done = weir()
    assert done.returncode == 2 and not done.stdout and done.stderr == weir("--help").stdout


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("words", [["{}", "--help"], ["{}", "-h"], ["help", "{}"]], ids=" ".join)
def test_every_command_says_on_standard_output_how_it_is_used(command, words):
    done = weir(*[word.format(command) for word in words])
    assert done.returncode == 0 and done.stdout.startswith(f"usage: weir {command}") and not done.stderr


@pytest.mark.parametrize("word, remedy", [("chekc", 'did you mean "check"?'), ("teh-weather", "`weir --help` lists them")])
def test_an_unknown_command_is_told_with_a_remedy(word, remedy):
    done = weir(word)
    assert done.returncode == 2 and done.stderr == f'weir: unknown command "{word}" ({remedy})\n' and not done.stdout


@pytest.mark.parametrize("words, complaint", [
    ("run", "-c FILE is missing"),
    ("run -c", "option requires an argument -- 'c'"),
    ("run a.yaml b.yaml", 'unexpected argument "b.yaml"'),
    ("check", "FILE is missing"),
    ("check --prin a.yaml", "unrecognized option '--prin'"),
    ("explain", "URL (or --listener NAME) is missing"),
    ("explain http://a/", "-c FILE is missing"),
    ("explain http://a/ b -c c.yaml", 'unexpected argument "b"'),
    ("test", "FILE is missing"),
    ("test a.yaml --min-coverage x", '--min-coverage: "x" is no percentage (expected 0% to 100%)'),
    ("diff a.yaml", "NEW is missing"),
    ("diff a.yaml b.yaml c.yaml", 'unexpected argument "c.yaml"'),
    ("diff a.yaml b.yaml --examples x", '--examples: "x" is no number (expected 0 to 100)'),
    ("replay", "LOG is missing"),
    ("replay a.log", "-c FILE is missing"),
    ("replay a.log -c b.yaml --examples 101", '--examples: "101" is no number (expected 0 to 100)'),
    ("import", "alb is missing"),
    ("import nlb a.json", '"nlb" cannot be imported (expected alb)'),
    ("import alb", "FILE is missing"),
    ("import alb --what a.json", "unrecognized option '--what'"),
    ("import alb a.json -o", "OUT is missing"),
    ("import alb a.json --certificate", "ARN=FILE is missing"),
    ("status a.yaml b", 'unexpected argument "b"'),
    ("reload --json", "unrecognized option '--json'"),
    ("upgrade --what", "unrecognized option '--what'"),
    ("top a", 'unexpected argument "a"'),
    ("tail a", 'unexpected argument "a"'),
    ("target", "an action is missing"),
    ("target fly a b", 'there is no action "fly"'),
    ("target drain a", "TARGET is missing"),
    ("target drain a b c", 'unexpected argument "c"'),
    ("target weight a b", "N is missing"),
    ("reason a b", 'unexpected argument "b"'),
    ("schema a", 'unexpected argument "a"'),
])
def test_what_is_wrong_with_a_command_line_is_said_before_its_usage(words, complaint):
    command = words.split()[0]
    done = weir(*words.split())
    assert done.returncode == 2 and not done.stdout
    said, usage = done.stderr.split("\n", 1)
    assert said == f"weir {command}: {complaint}" and usage.startswith(f"usage: weir {command}")

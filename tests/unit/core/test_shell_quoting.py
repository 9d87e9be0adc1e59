"""Values reach commands exactly, whatever they hold and wherever they stand: bash and sh say so."""

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchpoint.core.binding import evaluated_placeholders, shell_text, variable_of
from batchpoint.domain.errors import Invalid

SHELLS = ("bash", "sh")
X = "${{inputs.x}}"
HOSTILE = [
    "plain",
    "",
    " ",
    "two words",
    "  spaced  out  ",
    "-rf",
    "--flag=1",
    "*",
    "?[a-z]*",
    "~",
    "~root/x",
    "it's",
    'say "hi"',
    "$HOME",
    "${HOME}",
    "$(touch PWNED)",
    "`touch PWNED`",
    "; touch PWNED #",
    "'; touch PWNED; '",
    '"; touch PWNED; "',
    "'\"; touch PWNED; \"'",
    "touch PWNED",
    "| touch PWNED",
    "&& touch PWNED",
    "\ntouch PWNED\n",
    "\nEOF\ntouch PWNED\n",
    ")\ntouch PWNED\n(",
    "a[$(touch PWNED)]",
    "x=$((a[$(touch PWNED)]))",
    "\\",
    "\\\\",
    "\\n",
    "ends with \\",
    "line\nline\n\n",
    "tab\tand\rreturn",
    "!!",
    "!event",
    "# no comment",
    "{a,b}",
    "a=b",
    "${{inputs.x}}",
    "$[[x]]",
    "%s%d%n",
    "grüße 日本語 🎉",
    "\u202e\u200b",
    "\x01\x7f\x1b[31m",
]

# What stands in the command, and what it then is.
ANYWHERE: list[tuple[str, str]] = [
    (X, "{}"),
    ("${{ inputs.x }}", "{}"),
    ("${{\tinputs.x\n}}", "{}"),
    (f"--a={X}", "--a={}"),
    (f"{X}{X}", "{}{}"),
    (f"a{X}b", "a{}b"),
    (f'"{X}"', "{}"),
    (f'"a {X} b"', "a {} b"),
    (f'"it\'s {X}"', "it's {}"),
    (f"'{X}'", "{}"),
    (f"'a {X} b'", "a {} b"),
    (f"'say \"{X}\"'", 'say "{}"'),
    (f"'a '{X}' b'", "a {} b"),
    (f'"a "{X}" b"', "a {} b"),
    (f"\\'{X}", "'{}"),
    (f'\\"{X}', '"{}'),
    (f"a\\ {X}", "a {}"),
    (f"\\\\{X}", "\\{}"),
    (f"\\{X}", "{}"),
    (f'"\\{X}"', "\\{}"),
    (f'"\\"{X}"', '"{}'),
    (f'"\\\\{X}"', "\\{}"),
    (f"'\\'{X}", "\\{}"),
    (f"${X}", "${}"),
    (f'"${X}"', "${}"),
    (f"'${X}'", "${}"),
    (f"\\${X}", "${}"),
    (f'"$(printf %s. {X})"', "{}."),
    (f'"$(printf %s. "{X}")"', "{}."),
    (f"\"$(printf %s. '{X}')\"", "{}."),
    (f'"$(printf "%s." "a $(printf %s. {X}) b")"', "a {}. b."),
    (f'"`printf %s. {X}`"', "{}."),
    (f"\"`printf %s. '{X}'`\"", "{}."),
    (f'"`printf %s. \\"{X}\\"`"', "{}."),
    (f'"`printf %s. \\"\\`printf %s. {X}\\`\\"`"', "{}.."),
    (f'"$(case a in a) printf %s. {X};; esac)"', "{}."),
    (f'"$( (printf %s. {X}) )"', "{}."),
    (f'"$(: "x)" ; printf %s. {X})"', "{}."),
    (f"${{UNSET:-{X}}}", "{}"),
    (f'"${{UNSET:-{X}}}"', "{}"),
    (f'"${{UNSET-a {X} b}}"', "a {} b"),
    (f"${{UNSET-'{X}'}}", "{}"),
    (f'"${{HOME+{X}}}"', "{}"),
    (f'"$(cat <<EOF\n{X}.\nEOF\n)"', "{}."),
    (f'"$(cat <<EOF\nit\'s "{X}" $((1+1)).\nEOF\n)"', 'it\'s "{}" 2.'),
    (f"\"$(cat <<'EOF'\n$HOME `x` \\ {X}.\nEOF\n)\"", "$HOME `x` \\ {}."),
    (f'"$(cat <<-"E"\n\t$HOME {X}.\n\tE\n)"', "$HOME {}."),
    (f'"$(cat <<A; cat <<B\n1 {X}\nA\n2 {X}.\nB\n)"', "1 {}\n2 {}."),
    (f'"$(printf %s. a # it\'s\nprintf %s. {X})"', "a.{}."),
    (f'"$(if true; then printf %s. {X}; fi)"', "{}."),
    (f'"$(printf %s. {X} | cat)"', "{}."),
    (f'"$(f() {{ printf %s. "$1"; }}; f {X})"', "{}."),
    (f'"$(y={X}; printf %s. "$y")"', "{}."),
    (f'"$(y="a {X}"; printf %s. "$y")"', "a {}."),
    (f'"$(for y in {X} b; do printf %s. "$y"; done)"', "{}.b."),
    (f'"$(printf %s. {X} 2>&1 >&2 2>/dev/null)"', "{}."),
    (f'"$(cat < /dev/null; printf %s. {X} 2>/dev/null)"', "{}."),
    (f'"$(set -- {X}; printf %s. "$#$1")"', "1{}."),
]
IN_BASH: list[tuple[str, str]] = [
    (f"$'{X}'", "{}"),
    (f"$'a\\t\\'{X}\\n'", "a\t'{}\n"),
    (f"$'\\{X}'", "\\{}"),
    (f'$"a {X}"', "a {}"),
    (f'"$(cat <<<{X}.)"', "{}."),
    (f'"$(cat <(printf %s. {X}))"', "{}."),
    (f'"$(y=(a {X}); printf %s. "${{y[1]}}")"', "{}."),
    (f'"$([[ {X} == {X} ]] && printf %s. {X})"', "{}."),
    (f"\"$([[ '{X}' == \"{X}\" && -z '' ]] && printf %s. {X})\"", "{}."),
    (f'"$(y=a{X}; printf %s. "${{y#a{X}}}")"', "."),
]

DUMP = "printf '%s\\0'"


def run(shell: str, script: str, value: str, folder: Path) -> list[str]:
    """Run a script with one value; return the words that it printed, each ended by a NUL."""
    done = subprocess.run(
        [shell, "-c", script],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "LC_ALL": "C.UTF-8",
             variable_of("inputs", "x"): value},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, (script, value, done.stderr.decode(errors="replace"))
    assert not list(folder.iterdir()), f"{value!r} was run by {script!r}"
    return done.stdout.decode().split("\0")[:-1]


def contexts_for(shell: str) -> list[tuple[str, str]]:
    return ANYWHERE + (IN_BASH if shell == "bash" else [])


def check_all(shell: str, value: str, folder: Path) -> None:
    """One script with all contexts in it, so that each must leave the shell as it found it."""
    contexts = contexts_for(shell)
    script = "\n".join(f"{DUMP} {text}  # isn't it" for text, _ in contexts)
    printed = run(shell, shell_text(script, {"x"}), value, folder)
    expected = [told.replace("{}", value) for _, told in contexts]
    for (text, _), got, wanted in zip(contexts, printed, expected, strict=False):
        assert got == wanted, (shell, text, shell_text(text, {"x"}))
    assert len(printed) == len(expected), (shell, value)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_exactly_itself_in_every_context(shell: str, value: str, tmp_path: Path) -> None:
    check_all(shell, value, tmp_path)


EACH = [(shell, text, told) for shell in SHELLS for text, told in contexts_for(shell)]


@pytest.mark.parametrize(("shell", "text", "told"), EACH, ids=[" ".join(each[:2]) for each in EACH])
def test_each_context_alone(shell: str, text: str, told: str, tmp_path: Path) -> None:
    value = "a 'b' \"c\" $(touch PWNED) `touch PWNED` * \\ \n)\nEOF\n#"
    printed = run(shell, shell_text(f"{DUMP} {text}", {"x"}), value, tmp_path)
    assert printed == [told.replace("{}", value)]


SHELL_LOVES = st.text(st.sampled_from("ab '\"$`\\(){}[];|&<>*?!#~=\n\t-é"), max_size=30)
UNUSUAL = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=SHELL_LOVES | UNUSUAL)
def test_any_value_is_exactly_itself(value: str, tmp_path: Path) -> None:
    check_all("bash", value, tmp_path)
    check_all("sh", value, tmp_path)


# --- wild scripts -----------------------------------------------------------------------------

BAIT = [
    "touch PWNED",
    "$(touch PWNED)",
    "; touch PWNED #",
    "'; touch PWNED; '",
    '"; touch PWNED; "',
    "`touch PWNED`",
    "a[$(touch PWNED)]",
    "\nE\ntouch PWNED\n",
    ")\ntouch PWNED\n(",
    "1)) ; touch PWNED #",
]


def wild_word(r: random.Random, depth: int) -> str:
    """A word of shell in which the placeholder stands somewhere, often rightly and not always."""
    if depth <= 0:
        return r.choice([X, X, X, "a", "1", "$y", "\\", "\\'", '\\"', "#", "~", "*", "''", "$"])
    inner = wild_word(r, depth - 1)
    forms = [
        f"{inner}{wild_word(r, depth - 1)}",
        f'"{inner}"',
        f"'{inner}'",
        f"$'{inner}'",
        f'"$({wild_command(r, depth - 1)})"',
        f"$({wild_command(r, depth - 1)})",
        f"`{wild_command(r, depth - 1)}`",
        f'"`{wild_command(r, depth - 1)}`"',
        f"${{U:-{inner}}}",
        f'"${{U:-{inner}}}"',
        f'"${{HOME#{inner}}}"',
        f"${{HOME%'{inner}'}}",
        wild_number(r, depth - 1),
        f"<({wild_command(r, depth - 1)})",
    ]
    return r.choice(forms)


def wild_number(r: random.Random, depth: int) -> str:
    """What is calculated with. What commands print is left out: it is not the value any more."""
    if depth <= 0:
        return r.choice([X, X, X, "1", "y", f"'{X}'", f'"{X}"', f"1{X}"])
    inner = wild_number(r, depth - 1)
    forms = [
        f"$(( {inner} + 1 ))",
        f"$(( ({inner}) * 2 ))",
        f"$[ {inner} ]",
        f'"${{y:{inner}}}"',
        f"${{y[{inner}]}}",
        f"${{U:-{inner}}}",
        f'"${{U:-{inner}}}"',
    ]
    return r.choice(forms)


def wild_command(r: random.Random, depth: int) -> str:
    word, number = wild_word(r, depth), wild_number(r, depth)
    forms = [
        f"printf %s {word}",
        f": {word} {wild_word(r, depth - 1)}",
        f"y={word}",
        f"y[{number}]=1",
        f"y=({word})",
        f"case {word} in a) : {word};; *) : {word};; esac",
        f"if [ {word} = a ]; then : {word}; fi",
        f"[[ {word} == a ]]",
        f"[[ {number} -eq 1 ]]",
        f"(( {number} > 1 ))",
        f"for ((i=0; i<{number}; i++)); do break; done",
        f"for i in {word}; do : $i; done",
        f"( : {word} )",
        f"{{ : {word}; }}",
        f"cat <<E\n{word}\nE\n",
        f"cat <<'E'\n{word}\nE\n",
        f": {word} # {wild_word(r, 0)}\n",
        f"cat <<< {word}",
        f"[[ a == b && {number} -gt 1 ]]",
        f": a | : {word} && : {word} || :",
        f"f() {{ : {word}; }}; f",
        f"let y={number}",
        f"[ -v {number} ]",
        f"declare -i y={number}",
    ]
    return r.choice(forms)


def wild_scripts(seed: int, count: int) -> list[tuple[str, str, frozenset[str]]]:
    """Scripts that hold the placeholder, as we run them; and which of it was refused."""
    r = random.Random(seed)
    found: list[tuple[str, str, frozenset[str]]] = []
    while len(found) < count:
        script = wild_command(r, r.randint(1, 3))
        if r.random() < 0.3:  # something is forgotten, or there twice
            at = r.randrange(len(script))
            if script[at] in "'\"`()[]{}\\;":
                script = script[:at] + script[at] * r.choice([0, 2]) + script[at + 1 :]
        try:
            refused = frozenset(each.name for each in evaluated_placeholders(script))
            text = shell_text(script, {"x"})
        except Invalid:
            continue
        if X in script:
            found.append((script, text, refused))
    return found


def bitten(scripts: list[tuple[str, str, frozenset[str]]], seed: int, folder: Path) -> list[str]:
    """Run scripts with bait for values; return those in which it was taken for code."""
    r = random.Random(seed)
    victims: list[str] = []
    for script, text, refused in scripts:
        if refused:
            continue  # the component is not accepted with a text for its value
        for shell in ("bash", "sh"):
            value = r.choice(BAIT)
            try:
                subprocess.run(
                    [shell, "-c", text],
                    env={"PATH": "/usr/bin:/bin", variable_of("inputs", "x"): value},
                    cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                    timeout=10,
                )  # fmt: skip
            except subprocess.TimeoutExpired:  # an endless loop of the script's own making
                continue
            for path in folder.iterdir():
                if path.name == "PWNED":
                    victims.append(f"{shell}: {script!r} with {value!r}: {text!r}")
                path.unlink()
    return victims


def test_no_value_becomes_code_in_wild_scripts(tmp_path: Path) -> None:
    assert not bitten(wild_scripts(1, 200), 2, tmp_path)


def test_wild_scripts_would_find_values_that_are_put_into_the_text(tmp_path: Path) -> None:
    bait = "$(touch PWNED)"
    naive = [(s, s.replace(X, bait), frozenset[str]()) for s, _, _ in wild_scripts(1, 40)]
    assert bitten(naive, 2, tmp_path)


# --- what the shell takes for code ------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        f"echo $(( {X} + 1 ))",
        f"echo $[ {X} ]",
        f"(( {X} > 1 ))",
        f"for ((i=0; i<{X}; i++)); do :; done",
        f"[[ {X} -eq 1 ]]",
        f'[[ "{X}" -eq 1 ]]',
        f"y[{X}]=1",
        f'echo "${{y:{X}}}"',
        f"echo ${{y[{X}]}}",
        f"let y={X}",
        f'eval "echo {X}"',
        f"bash -c 'echo {X}'",
        f"/bin/sh -ec 'echo {X}'",
        f"xargs -n1 sh -c 'echo {X}'",
        f"A=1 env B=2 bash -c {X}",
        f"if true; then eval {X}; fi",
        f"declare -i y={X}",
        f"[ -v {X} ]",
        f"trap 'echo {X}' EXIT",
        f'echo "$(eval {X})"',
        f"echo `eval {X}`",
        f"eval a 2>&1 {X}",
        f"eval a > b {X}",
        f"eval a &>/dev/null {X}",
    ],
)
def test_places_where_a_text_would_be_run_are_told(command: str) -> None:
    assert evaluated_placeholders(command)


@pytest.mark.parametrize(
    "command",
    [
        f"echo {X}",
        f"echo $(( $(wc -l < {X}) + 1 ))",
        f"[[ {X} == a && 1 -eq 1 ]]",
        f"eval a; echo {X}",
        f"bash script.sh --config {X}",
        f"bash {X}",
        f"pip install package[{X}]",
        f"export Y={X}",
        f"test {X} = a",
        f"echo '((' {X}",
        f"read y < {X}",
        f"mapfile -t lines <{X}",
        f"read y <<< {X}",
        f"eval a > {X}",
        f"while read y; do echo $y; done < {X} >> {X} 2>&1",
    ],
)
def test_other_places_are_for_every_value(command: str) -> None:
    assert not evaluated_placeholders(command)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_calculates_with_whole_numbers(shell: str, tmp_path: Path) -> None:
    command = f'{DUMP} $(( {X} * 2 )) "$(( ({X}) - -{X} ))"'
    assert run(shell, shell_text(command, {"x"}), "21", tmp_path) == ["42", "42"]
    if shell == "bash":
        command = f'(( {X} == 7 )) && [[ {X} -gt 6 ]] && y=abcdefgh && {DUMP} "${{y:{X}}}"'
        assert run(shell, shell_text(command, {"x"}), "7", tmp_path) == ["h"]


@pytest.mark.parametrize("opener", ['"$(', "$((", "${x:-", "<("])
def test_nesting_is_bounded(opener: str) -> None:
    with pytest.raises(Invalid, match="deeper"):
        shell_text(opener * 5_000 + X, {"x"})


def test_a_placeholder_cannot_end_a_heredoc() -> None:
    for text in (f"cat <<{X}\n", f"cat <<a\\{X}\n", f"cat <<'a b'\n{X}\na b\n"):
        with pytest.raises(Invalid):
            shell_text(text, {"x"})


def test_a_long_command_is_read_in_no_time() -> None:
    pieces = ["[[ ", "`", "$(", ") ", "a ", "'b' ", X + " ", "<<E ", "\n", "${", '"', "#"]
    r = random.Random(5)
    for piece in pieces:
        text = piece * (40 if piece in {"$(", '"', "${"} else 20_000)
        shell_text(text + X, {"x"})
    shell_text("".join(r.choice(pieces[:7]) for _ in range(20_000)).replace("$(", "") + X, {"x"})

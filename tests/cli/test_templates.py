"""Templates give what Go's give; `tests/real/test_inspect.py` asks podman as well."""

import pytest

from overlayfs.cli.templates.template import Fields, Template, TemplateError

DATA = Fields(
    Id="sha256:1",
    Config=Fields(
        Env=["A=1", "B=2"],
        Labels={"k": "v", "a.b": "c d"},
        Cmd=[],
        Healthcheck=None,
    ),
    Size=1500,
    Empty="",
    Yes=True,
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        # values
        ("plain {} text", "plain {} text"),
        ("{{.Id}}", "sha256:1"),
        ("<{{.Empty}}>", "<>"),
        ("{{.Size}} {{.Yes}}", "1500 true"),
        ("{{.Config.Env}} {{.Config.Cmd}}", "[A=1 B=2] []"),
        ("{{.Config.Labels}}", "map[a.b:c d k:v]"),
        ("{{.Config.Labels.k}} {{.Config.Labels.no}}", "v <no value>"),
        ("{{.Config.Healthcheck}}", "<nil>"),
        ("{{.Config}}", "{[A=1 B=2] map[a.b:c d k:v] [] <nil>}"),
        ('{{"a\\tb"}} {{`a\\tb`}} {{1.5}} {{-3}} {{true}} {{"}}"}}', "a\tb a\\tb 1.5 -3 true }}"),
        ("{{(.Config).Env}} {{$.Id}}", "[A=1 B=2] sha256:1"),
        # functions
        ("{{json .Config.Labels}}", '{"k":"v","a.b":"c d"}'),
        ("{{json .Config.Labels.no}} {{json .Config.Healthcheck}}", "null null"),
        ('{{index .Config.Labels "a.b"}} <{{index .Config.Labels "no"}}>', "c d <>"),
        ("{{index .Config.Env 1}}", "B=2"),
        ('{{join .Config.Env ", "}}', "A=1, B=2"),
        ('{{split "a:b" ":"}}', "[a b]"),
        ("{{len .Config.Env}} {{len .Id}} {{len .Config.Labels}}", "2 8 2"),
        ("{{slice .Id 7}} {{slice .Id 0 6}} {{slice .Config.Env 1 2}}", "1 sha256 [B=2]"),
        ('{{upper "a"}} {{lower "A"}} {{title "ab"}} {{truncate .Id 3}}', "A a Ab sha"),
        ('{{pad "x" 1 2}}|', " x  |"),
        (
            '{{printf "%s=%v %q %5d|%-5d|%05d %x %%" .Id .Yes "q" 1 2 3 255}}',
            'sha256:1=true "q"     1|2    |00003 ff %',
        ),
        ("{{print 1 2}} {{print 1 .Id 2}}", "1 2 1sha256:12"),
        ("{{println .Id .Size}}|", "sha256:1 1500\n|"),
        (
            '{{eq .Id "x" "sha256:1"}} {{ne .Id "x"}} {{lt 1 2}} {{ge "a" "b"}}',
            "true true true false",
        ),
        ("{{and .Yes .Id}} {{or .Empty .Id}} {{not .Empty}}", "sha256:1 sha256:1 true"),
        ("{{and .Config.Healthcheck .Config.Healthcheck.Test}}", "<nil>"),
        # pipes
        ('{{.Config.Env | len | printf "%3d"}}', "  2"),
        ("{{(index .Config.Env 0) | printf `%q`}}", '"A=1"'),
        ("{{if .Config.Labels | len | eq 2}}two{{end}}", "two"),
        # branches
        ("{{if .Config.Cmd}}a{{else if .Yes}}b{{else}}c{{end}}d", "bd"),
        ("{{if .Empty}}a{{else if .Config.Cmd}}b{{else}}c{{end}}", "c"),
        ("{{if .Config.Labels.no}}a{{end}}|", "|"),
        ("{{with .Config.Healthcheck}}{{.Test}}{{else}}none{{end}}", "none"),
        ("{{with .Config}}{{len .Env}}{{end}}", "2"),
        # loops
        ("{{range .Config.Env}}{{.}};{{end}}", "A=1;B=2;"),
        ("{{range .Config.Cmd}}a{{else}}none{{end}}", "none"),
        ("{{range $i, $e := .Config.Env}}{{if $i}}, {{end}}{{$e}}{{end}}", "A=1, B=2"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a.b=c d;k=v;"),
        ("{{range $e := .Config.Env}}{{$e}}{{$.Size}} {{end}}", "A=11500 B=21500 "),
        # variables
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        # what is not shown
        ("a \n {{- /* a comment */ -}} \n b", "ab"),
        ("a {{/* {{.Id}} */}} b", "a  b"),
        ("a {{- .Id -}} b", "asha256:1b"),
        ("{{range .Config.Env -}}\n {{.}} {{- end}}", "A=1B=2"),
    ],
)
def test_a_template_gives_what_go_gives(template: str, expected: str) -> None:
    assert Template.parse(template).render(DATA) == expected


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{", "unclosed {{, at character 3"),
        ("{{.Id", "unclosed {{"),
        ("{{}}", "nothing between"),
        ("{{.Id ? }}", "not understood, at character 7"),
        ('{{"open}}', "not understood, at character 3"),
        ('{{"\\z"}}', "an escape that is not known"),
        ("{{if .Id}}", "if has no {{end}}"),
        ("{{range .Id}}{{else}}", "range has no {{end}}"),
        ("{{end}}", "{{end}} without a beginning"),
        ("{{else}}", "{{else}} without a beginning"),
        ("{{if}}{{end}}", "a value is missing"),
        ("{{.Id | }}", "a value is missing"),
        ("{{(.Id}}", "unclosed ("),
        ("{{.Id)}}", ") is not expected"),
        ("{{.Id .Id}}", "only a function takes arguments"),
        ("{{nope .Id}}", "no function nope; there are and, eq,"),
        ('{{template "x"}}', "template is not known here"),
        ("{{$x}}", "$x is not known"),
        ("{{$x = 1}}", "$x is not known"),
        ("{{range $i, $v := .Config.Env}}{{end}}{{$i}}", "$i is not known"),
        ("{{range $i, $v = .Config.Env}}{{end}}", ":= is missing"),
        ("{{" + "(" * 5000 + ".Id" + ")" * 5000 + "}}", "nested too deeply"),
    ],
)
def test_what_is_no_template_is_refused_with_its_place(template: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as raised:
        Template.parse(template)
    assert raised.value.message.startswith("--format: ")
    assert complaint in raised.value.message


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{.Nope}}", "no field .Nope; there are Id, Config, Size, Empty, Yes"),
        ("{{.Config.Nope}}", "no field .Nope; there are Env, Labels"),
        ("{{.Config.Healthcheck.Test}}", ".Test of what is not there"),
        ("{{.Id.Length}}", ".Length: sha256:1 has no fields"),
        ("{{range .Id}}{{end}}", "range: sha256:1 is no list and no map"),
        ("{{index .Config.Env 2}}", "index: no 2 among 2"),
        ("{{index .Config.Env -1}}", "index: no -1 among 2"),
        ("{{index .Id 0}}", "index: sha256:1 is no list"),
        ("{{join .Id `,`}}", "join: sha256:1 is no list"),
        ("{{join .Config.Env 1}}", "join: 1 is no text"),
        ("{{len .Size}}", "len: 1500 has no length"),
        ("{{lt 1 `a`}}", "lt: 1 and a cannot be compared"),
        ("{{slice .Id 9}}", "slice: from 9 to 8 is no range"),
        ("{{slice .Id 0 9}}", "slice: no 9 among 8"),
        ("{{slice .Size}}", "slice: 1500 is no text and no list"),
        ("{{truncate .Id `x`}}", "truncate: x is no length"),
        ("{{pad .Id `x` 1}}", "pad: wants"),
        ("{{printf `%d` .Id}}", "printf: %d is not known for sha256:1"),
        ("{{printf `%x` 1.5}}", "printf: %x is not known for 1.5"),
        ("{{printf `%99999d` 1}}", "printf: %99999 is not known for 1"),
        ("{{index .Config.Labels .Config.Env}}", "index: [A=1 B=2] is no name of a map"),
        ("{{printf `%s`}}", "printf: no value for %s"),
        ("{{printf `` 1}}", "printf: 1 values too many"),
        ("{{json}}", "json: 0 arguments"),
        ("{{upper 1}}", "upper: 1 is no text"),
        ("{{and}}", "and: a value is missing"),
        ("{{.Id | .Size}}", "only a function can stand behind |"),
    ],
)
def test_what_cannot_be_filled_in_is_said(template: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as raised:
        Template.parse(template).render(DATA)
    assert complaint in raised.value.message

use proptest::prelude::*;

use super::*;

/// Something with a field of every shape.
struct Sample {
    name: &'static str,
    tags: Vec<Text>,
    meta: Labels,
    addresses: Labels<ServiceAddress>,
    parts: Vec<&'static str>,
}

const ADDRESS: &[Field] = &[field("Address", Shape::Text), field("Port", Shape::Number)];
const PART: &[Field] = &[field("Name", Shape::Text)];

impl Selectable for Sample {
    const FIELDS: &'static [Field] = &[
        field("Name", Shape::Text),
        field("Port", Shape::Number),
        field("Native", Shape::Bool),
        field("Tags", Shape::Texts),
        field("Meta", Shape::Labels),
        field("Addresses", Shape::Map(ADDRESS)),
        field("Inner", Shape::Object(PART)),
        field("Parts", Shape::Objects(PART)),
    ];

    fn value<'a>(&'a self, path: &[Step]) -> Value<'a> {
        match path {
            [Step::Field("Name")] | [Step::Field("Inner"), Step::Field("Name")] => Value::text(self.name),
            [Step::Field("Port")] => Value::Number(80),
            [Step::Field("Native")] => Value::Bool(true),
            [Step::Field("Tags")] => Value::Texts(&self.tags),
            [Step::Field("Meta")] => Value::Labels(&self.meta),
            [Step::Field("Meta"), Step::Key(name)] => Value::label(&self.meta, name),
            [Step::Field("Addresses")] => Value::Addresses(&self.addresses),
            [Step::Field("Addresses"), Step::Key(name), Step::Field(part)] => {
                match (self.addresses.get(name), *part) {
                    (Some(address), "Address") => Value::text(&address.address),
                    (Some(address), _) => Value::Number(address.port.into()),
                    (None, _) => Value::Absent,
                }
            }
            [Step::Field("Parts")] => Value::Count(self.parts.len()),
            [Step::Field("Parts"), _] => {
                Value::AnyOf(self.parts.iter().map(|name| Value::text(name)).collect())
            }
            _ => Value::Absent,
        }
    }
}

fn sample() -> Sample {
    let address = ServiceAddress {
        address: "10.0.0.1".into(),
        port: 8080,
    };
    Sample {
        name: "web-1",
        tags: vec!["a".into(), "B".into()],
        meta: [("rack", Text::from("r1")), ("a.b", Text::from(""))]
            .into_iter()
            .collect(),
        addresses: [("lan", address)].into_iter().collect(),
        parts: vec!["one", "two"],
    }
}

fn holds(text: &str) -> Result<bool, String> {
    let filter = Filter::parse::<Sample>(text).map_err(|FilterError(why)| why)?;
    Ok(filter.matches(&sample()))
}

#[test]
fn comparisons() {
    for text in [
        "Name == \"web-1\"",
        " Name==`web-1` ",
        "Name != web",
        "web in Name",
        "Name contains eb",
        "Name not contains `2`",
        "x not in Name",
        "Name matches `^web-[0-9]$`",
        "Name not matches `^eb`",
        "Inner.Name == \"web-1\"",
        "Port == 80",
        "Port == \"0x50\"",
        "Port != -80",
        "Native == true",
        "Native != `F`",
        "a in Tags",
        "Tags contains B",
        "Tags not contains b",
        "Tags is not empty",
        "Meta contains rack",
        "a not in Meta",
        "Meta is not empty",
        "Meta.rack == r1",
        "Meta[\"rack\"] != r2",
        "Meta[ `a.b` ] == \"\"",
        "Addresses contains lan",
        "Addresses.lan.Port == 8080",
        "Addresses[\"lan\"].Address == \"10.0.0.1\"",
        "Parts is not empty",
        "Parts.Name == one",
        "Parts.Name != one",
        "not Parts.Name == three",
        "Name == \"web-1\" or Port == 1 and Port == 2",
        "not Name == a and Port == 80",
        "not not Port == 80",
        "(Port == 80)",
        "((Port == 1 or Port==80) and Name != a) or\n(Port == 2)",
        "not (Port == 1) and (Port == 80 or Port == 1)",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
        assert_eq!(holds(&format!("not ({text})")), Ok(false), "{text}");
    }
}

#[test]
fn of_names_that_are_not_there_only_negations_hold() {
    for (text, expected) in [
        ("Meta.none == x", false),
        ("Meta.none != x", true),
        ("x in Meta.none", false),
        ("x not in Meta.none", true),
        ("Meta.none matches x", false),
        ("Meta.none not matches x", true),
        ("Addresses.wan.Port == 1", false),
        ("Addresses.wan.Port != 1", true),
    ] {
        assert_eq!(holds(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_makes_no_sense() {
    for (text, expected) in [
        ("Bogus == a", "Selector \"Bogus\" is not valid"),
        ("Bogus.x.y == 1", "Selector \"Bogus\" is not valid"),
        ("Meta.a.b == c", "Selector \"Meta.a.b\" is not valid"),
        ("Name[`x`] == a", "Selector \"Name.x\" is not valid"),
        ("name == a", "Selector \"name\" is not valid"),
        (
            "Name is empty",
            "Invalid match operator \"Is Empty\" for selector \"Name\"",
        ),
        (
            "Meta.x is empty",
            "Invalid match operator \"Is Empty\" for selector \"Meta.x\"",
        ),
        (
            "Meta == a",
            "Invalid match operator \"Equal\" for selector \"Meta\"",
        ),
        (
            "Tags not matches a",
            "Invalid match operator \"Not Matches\" for selector \"Tags\"",
        ),
        (
            "1 not in Port",
            "Invalid match operator \"Not In\" for selector \"Port\"",
        ),
        (
            "Inner is not empty",
            "Invalid match operator \"Is Not Empty\" for selector \"Inner\"",
        ),
        (
            "Parts contains a",
            "Invalid match operator \"In\" for selector \"Parts\"",
        ),
        (
            "Port == abc",
            "Failed to coerce value \"abc\" for selector \"Port\": strconv.ParseInt: parsing \"abc\": invalid syntax",
        ),
        (
            "Native == 2",
            "Failed to coerce value \"2\" for selector \"Native\": strconv.ParseBool: parsing \"2\": invalid syntax",
        ),
        (
            "Name matches \"(\"",
            "Failed to compile regular expression \"(\": error parsing regexp: missing closing ): `(`",
        ),
        (
            "Name matches \"*\"",
            "Failed to compile regular expression \"*\": error parsing regexp: missing argument to repetition \
             operator: `*`",
        ),
        (
            "Name == a and Bogus == b or Tags == c",
            "Selector \"Bogus\" is not valid",
        ),
    ] {
        assert_eq!(holds(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn what_does_not_parse() {
    let value = r#""-", "0", "\"", "`", [ \t\r\n], [1-9] or [a-zA-Z]"#;
    let term = r#""(", "-", "0", "\"", "`", "not", [ \t\r\n], [1-9] or [a-zA-Z]"#;
    let operator = r#""!=", ".", "==", "[", [ \t\r\n] or [a-zA-Z0-9_]"#;
    for (text, place, expected) in [
        ("Node", "1:5 (4)", operator),
        ("AND", "1:4 (3)", operator),
        ("Node=a", "1:5 (4)", operator),
        ("not(a == b)", "1:4 (3)", operator),
        ("Node == ", "1:9 (8)", value),
        ("Node == é", "1:9 (8)", value),
        ("a == a\n and\n Node === b", "3:9 (20)", value),
        ("(", "1:2 (1)", term),
        ("not (", "1:6 (5)", term),
        ("é == a", "1:1 (0)", term),
        (
            "Node == fn-2",
            "1:11 (10)",
            r#"".", "[", [ \t\r\n], [a-zA-Z0-9_] or EOF"#,
        ),
        ("(Node == a) )", "1:13 (12)", r#""and", "or", [ \t\r\n] or EOF"#),
        ("Node is", "1:8 (7)", r"[ \t\r\n]"),
        ("Node is not empt", "1:13 (12)", r#""empty" or [ \t\r\n]"#),
        ("\"a\" == Node", "1:5 (4)", r#""in", "not" or [ \t\r\n]"#),
        ("Node == a or", "1:13 (12)", r"[ \t\r\n]"),
        ("Node == -", "1:10 (9)", r#""0" or [1-9]"#),
        ("Node.", "1:6 (5)", "[a-zA-Z]"),
        ("Node == 5)", "1:10 (9)", r#"".", [ \t\r\n], [0-9] or EOF"#),
        ("Node == \"a\"or b == c", "1:12 (11)", r"[ \t\r\n] or EOF"),
        (
            "Meta[`a`]x == b",
            "1:10 (9)",
            r#""!=", ".", "==", "[" or [ \t\r\n]"#,
        ),
        ("5", "1:2 (1)", r#"".", [ \t\r\n] or [0-9]"#),
        (
            "Node not con",
            "1:10 (9)",
            r#""contains", "in", "matches" or [ \t\r\n]"#,
        ),
    ] {
        let error = format!("{place}: no match found, expected: {expected}");
        assert_eq!(holds(text), Err(error), "{text}");
    }
    for (text, expected) in [
        (
            "Node == 10.0.0.1",
            "1:13 (12): rule \"number\": Invalid number literal",
        ),
        ("Node == 007", "1:10 (9): rule \"number\": Invalid number literal"),
        (
            "(Node == a",
            "1:11 (10): rule \"grouping\": Unmatched parentheses",
        ),
        (
            "((Node == a)",
            "1:13 (12): rule \"grouping\": Unmatched parentheses",
        ),
        ("Meta[os] == a", "1:6 (5): rule \"index\": Invalid index"),
        (
            "Meta[\"os\" == a",
            "1:11 (10): rule \"index\": Unclosed index expression",
        ),
        (
            "Meta[\"os",
            "1:9 (8): rule \"string\": Unterminated string literal\n1:6 (5): rule \"index\": Invalid index",
        ),
        (
            "Node == \"é",
            "1:11 (11): rule \"string\": Unterminated string literal",
        ),
        ("Node == \"a\\q\"", "1:9 (8): rule \"string\": invalid syntax"),
        ("a in 5", "1:6 (5): rule \"match\": Invalid selector"),
    ] {
        assert_eq!(holds(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn size_depth_and_patterns_are_bounded() {
    let nested = |depth: usize| format!("{}Port == 80{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(holds(&nested(grammar::MAX_DEPTH)), Ok(true));
    let error = Err("the filter is nested more than 64 levels deep".to_owned());
    assert_eq!(holds(&nested(grammar::MAX_DEPTH + 1)), error);
    assert_eq!(holds(&format!("{}Port == 80", "not ".repeat(65))), error);
    assert_eq!(holds(&"(".repeat(MAX_FILTER_BYTES)), error);
    let many = vec!["Port == 80"; 500].join(" and ");
    assert_eq!(holds(&many), Ok(true), "a long filter is not a deep one");
    let patterns = |count| vec!["Name matches e"; count].join(" and ");
    assert_eq!(holds(&patterns(MAX_FILTER_PATTERNS)), Ok(true));
    assert_eq!(
        holds(&patterns(MAX_FILTER_PATTERNS + 1)),
        Err("the filter has more than 16 regular expressions".to_owned())
    );
    assert_eq!(
        holds(&" ".repeat(MAX_FILTER_BYTES + 1)),
        Err("the filter has 8193 bytes, and may have 8192".to_owned())
    );
}

/// A filter as text, with what it says about the sample.
fn filters() -> impl Strategy<Value = (String, bool)> {
    let leaf = prop_oneof![
        Just(("Port == 80".to_owned(), true)),
        Just(("x in Tags".to_owned(), false)),
        Just(("Name matches `^web`".to_owned(), true)),
        Just(("Meta is empty".to_owned(), false)),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| (format!("({} and {})", a.0, b.0), a.1 && b.1)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| (format!("( {} or {} )", a.0, b.0), a.1 || b.1)),
            inner.prop_map(|a| (format!("not ({})", a.0), !a.1)),
        ]
    })
}

proptest! {
    #[test]
    fn combinations_hold_as_logic_says((text, expected) in filters()) {
        prop_assert_eq!(holds(&text), Ok(expected));
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(text in "[ -~é\n]{0,60}") {
        let _ = holds(&text);
    }

    #[test]
    fn pieces_in_any_order_are_a_filter_or_an_error(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "Name", "Meta", ".", "[", "]", "\"a\"", "`", "\"", "==", "!=", " ", "in", "not", "is", "empty",
                "and", "or", "(", ")", "-", "0", "12", "matches", "contains",
            ]),
            0..30,
        )
    ) {
        let _ = holds(&pieces.concat());
    }
}

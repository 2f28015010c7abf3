//! What clients send as `?filter=`: whatever it is, it is refused, or chooses without a panic, and its negation chooses the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lictor_catalog::{Labels, Text};
use lictor_http::filter::{Field, Filter, Selectable, Shape, Step, Value};

/// Something with a field of most shapes.
struct Sample {
    tags: Vec<Text>,
    meta: Labels,
}

impl Selectable for Sample {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "Name",
            shape: Shape::Text,
        },
        Field {
            name: "Port",
            shape: Shape::Number,
        },
        Field {
            name: "Tags",
            shape: Shape::Texts,
        },
        Field {
            name: "Meta",
            shape: Shape::Labels,
        },
    ];

    fn value<'a>(&'a self, path: &[Step]) -> Value<'a> {
        match path {
            [Step::Field("Name")] => Value::text("web"),
            [Step::Field("Port")] => Value::Number(80),
            [Step::Field("Tags")] => Value::Texts(&self.tags),
            [Step::Field("Meta"), Step::Key(name)] => Value::label(&self.meta, name),
            [..] => Value::Labels(&self.meta),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let sample = Sample {
        tags: vec!["a".into(), "b".into()],
        meta: [("k", Text::from("v"))].into_iter().collect(),
    };
    let Ok(filter) = Filter::parse::<Sample>(text) else { return };
    let wanted = filter.matches(&sample);
    // The negation may be too long, or too deep.
    if let Ok(negated) = Filter::parse::<Sample>(&format!("not ({text})")) {
        assert_ne!(negated.matches(&sample), wanted);
    }
});

//! Prepared queries as clients write them.

use std::time::Duration;

use lictor_catalog::{Failover, Labels, PreparedDef, PreparedService, PreparedToken, TemplateDef, Text};
use serde_json::Value;

use crate::decode::{Fields, parse};
use crate::text::{Signed, parse_duration};

/// What a client wrote. Indexes that come with it mean nothing.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Its id, if it says one.
    pub(super) id: String,
    /// All else. The TTL is but a text yet.
    pub(super) def: PreparedDef,
}

/// Reads a request's body. Members that are not known are an error.
pub(super) fn written(body: &[u8]) -> Result<Written, String> {
    let place = "value of type structs.PreparedQuery";
    let mut fields = Fields::new(parse(body)?, "PreparedQuery", place)?;
    let written = Written {
        id: fields.string("ID", "string")?,
        def: PreparedDef {
            name: fields.string("Name", "string")?.into(),
            session: fields.string("Session", "string")?.into(),
            token: PreparedToken(fields.string("Token", "string")?.into()),
            template: template(&mut fields)?,
            service: service(&mut fields)?,
            ttl_text: ttl_text(&mut fields)?,
            ..PreparedDef::default()
        },
    };
    fields.uint("CreateIndex")?;
    fields.uint("ModifyIndex")?;
    fields.finish()?;
    Ok(written)
}

/// The duration that a TTL is. The error is a text for the client.
pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let parsed = parse_duration(text);
    match parsed.map_err(|why| format!("Invalid prepared query: Bad DNS TTL '{text}': {why}"))? {
        Signed::Positive(ttl) => Ok(ttl),
        Signed::Negative => {
            let nanos = match parse_duration(text.trim_start_matches('-')) {
                Ok(Signed::Positive(magnitude)) => magnitude.as_nanos(),
                Ok(Signed::Negative) | Err(_) => 0,
            };
            Err(format!("Invalid prepared query: DNS TTL '-{nanos}', must be >=0"))
        }
    }
}

fn template(fields: &mut Fields) -> Result<TemplateDef, String> {
    let place = fields.place("Template", "structs.QueryTemplateOptions");
    let inner = fields.take("Template").unwrap_or(Value::Null);
    let mut fields = Fields::new(inner, "QueryTemplateOptions.Template", &place)?;
    let template = TemplateDef {
        kind: fields.string("Type", "string")?.into(),
        pattern: fields.string("Regexp", "string")?.into(),
        remove_empty_tags: fields.bool("RemoveEmptyTags")?,
    };
    fields.finish()?;
    Ok(template)
}

fn service(fields: &mut Fields) -> Result<PreparedService, String> {
    let place = fields.place("Service", "structs.ServiceQuery");
    let inner = fields.take("Service").unwrap_or(Value::Null);
    let mut fields = Fields::new(inner, "ServiceQuery.Service", &place)?;
    let service = PreparedService {
        service: fields.string("Service", "string")?.into(),
        failover: failover(&mut fields)?,
        only_passing: fields.bool("OnlyPassing")?,
        ignored_checks: texts(&mut fields, "IgnoreCheckIDs")?,
        near: fields.string("Near", "string")?.into(),
        tags: texts(&mut fields, "Tags")?,
        node_meta: labels(&mut fields, "NodeMeta")?,
        service_meta: labels(&mut fields, "ServiceMeta")?,
        connect: fields.bool("Connect")?,
    };
    fields.finish()?;
    Ok(service)
}

fn failover(fields: &mut Fields) -> Result<Failover, String> {
    let place = fields.place("Failover", "structs.QueryDatacenterOptions");
    let inner = fields.take("Failover").unwrap_or(Value::Null);
    let mut fields = Fields::new(inner, "QueryDatacenterOptions.Service.Failover", &place)?;
    let failover = Failover {
        nearest: fields.int("NearestN")?,
        datacenters: texts(&mut fields, "Datacenters")?,
    };
    fields.finish()?;
    Ok(failover)
}

fn ttl_text(fields: &mut Fields) -> Result<Text, String> {
    let place = fields.place("DNS", "structs.QueryDNSOptions");
    let inner = fields.take("DNS").unwrap_or(Value::Null);
    let mut fields = Fields::new(inner, "QueryDNSOptions.DNS", &place)?;
    let ttl = fields.string("TTL", "string")?;
    fields.finish()?;
    Ok(ttl.into())
}

/// A list; `None` if there is none, which is not the same as an empty one.
fn texts(fields: &mut Fields, name: &str) -> Result<Option<Vec<Text>>, String> {
    let is_there = fields.peek(name).is_some();
    let texts = fields.strings(name)?.into_iter().map(Text::from).collect();
    Ok(Some(texts).filter(|_| is_there))
}

/// Labels; `None` if there are none, which is not the same as an object without members.
fn labels(fields: &mut Fields, name: &str) -> Result<Option<Labels>, String> {
    let is_there = fields.peek(name).is_some();
    let pairs = fields.string_map(name)?.into_iter();
    let labels = pairs.map(|(name, value)| (name, Text::from(value))).collect();
    Ok(Some(labels).filter(|_| is_there))
}

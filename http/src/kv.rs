//! `/v1/kv/`: one key, many keys, and their changes.

use std::sync::Arc;

use bytes::Bytes;
use lictor_catalog::{Action, Found, Holder, KvEntry, KvPair, KvWrite, Outcome, Query, SessionRef};
use lictor_machine::Index;
use serde::Serialize;
use serde::ser::SerializeStruct as _;
use trillium::Method;

use crate::json::{Blob, Text};
use crate::reply::{Content, Fault, Meta, Reply};
use crate::request::Request;

/// Answers any request below `/v1/kv/`.
pub(crate) async fn handle(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let method = request.conn.method();
    if method == Method::Put {
        put(request).await
    } else if method == Method::Delete {
        delete(request).await
    } else if request.params.has("keys") {
        keys(request).await
    } else if request.params.has("recurse") {
        list(request).await
    } else {
        get(request).await
    }
}

async fn get(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.read_options()?;
    request.params.no_namespace(request.headers())?;
    let key = key(request)?;
    let reading = request.read(Query::KvGet(key), options).await?;
    let meta = Meta::blocking(&reading);
    let Found::Entry(found) = reading.value else {
        return Err(unexpected());
    };
    let reply = match found {
        None => Reply::not_found(),
        Some(entry) if request.params.has("raw") => {
            Reply::new(trillium::Status::Ok, Content::Raw(entry.value.to_vec()))
        }
        Some(entry) => request.json(
            &[Entry {
                entry: &entry,
                value: true,
                fence: request.params.has("fence"),
            }],
            size(&entry),
        ),
    };
    Ok(reply.with_meta(meta))
}

async fn list(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.read_options()?;
    request.params.no_namespace(request.headers())?;
    let prefix = request.take_rest();
    let reading = request.read(Query::KvList(prefix), options).await?;
    let meta = Meta::blocking(&reading);
    let Found::Entries(entries) = reading.value else {
        return Err(unexpected());
    };
    let reply = if entries.is_empty() {
        Reply::not_found()
    } else {
        let capacity = entries.iter().map(|entry| size(entry)).sum();
        let fence = request.params.has("fence");
        request.large_json(Entries { entries, fence }, capacity).await
    };
    Ok(reply.with_meta(meta))
}

async fn keys(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.read_options()?;
    request.params.no_namespace(request.headers())?;
    // The misspelling is an old promise.
    let separator = request
        .params
        .get("separator")
        .or_else(|| request.params.get("seperator"));
    let separator = Bytes::copy_from_slice(separator.unwrap_or_default());
    let prefix = request.take_rest();
    let root = prefix.is_empty();
    let reading = request.read(Query::KvKeys { prefix, separator }, options).await?;
    let meta = Meta::blocking(&reading);
    let Found::Keys(keys) = reading.value else {
        return Err(unexpected());
    };
    let reply = if keys.is_empty() && !root {
        Reply::not_found()
    } else {
        let capacity = keys.iter().map(|key| key.len() + 3).sum();
        request.large_json(Keys(keys), capacity).await
    };
    Ok(reply.with_meta(meta))
}

async fn put(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.write_options()?;
    request.params.no_namespace(request.headers())?;
    let key = key(request)?;
    request.params.at_most_one(&["cas", "acquire", "release"])?;
    let flags = request.params.uint("flags")?.unwrap_or(0);
    let cas = request.params.uint("cas")?;
    let value = request
        .body(request.api.config.kv_max_value_size, "kv_max_value_size")
        .await?;
    let pair = KvPair {
        key,
        value: value.into(),
        flags,
    };
    let session = |name| {
        let session = request.params.get(name)?;
        Some(SessionRef(String::from_utf8_lossy(session).into_owned()))
    };
    let (write, conditional) = if let Some(index) = cas {
        (KvWrite::Cas(pair, Index(index)), true)
    } else if let Some(session) = session("acquire") {
        (KvWrite::Lock(pair, session), true)
    } else if let Some(session) = session("release") {
        (KvWrite::Unlock(pair, session), true)
    } else {
        (KvWrite::Set(pair), false)
    };
    let outcome = request.write(Action::Kv(write), options).await?;
    changed(request, outcome, conditional)
}

async fn delete(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.write_options()?;
    request.params.no_namespace(request.headers())?;
    request.params.at_most_one(&["recurse", "cas"])?;
    let (write, conditional) = if request.params.has("recurse") {
        (KvWrite::DeleteTree(request.take_rest()), false)
    } else {
        let key = key(request)?;
        match request.params.uint("cas")? {
            Some(index) => (KvWrite::DeleteCas(key, Index(index)), true),
            None => (KvWrite::Delete(key), false),
        }
    };
    let outcome = request.write(Action::Kv(write), options).await?;
    changed(request, outcome, conditional)
}

/// Takes the key out of the path, which must name one.
fn key(request: &mut Request<'_>) -> Result<Bytes, Fault> {
    if request.rest.is_empty() {
        Err(Fault::bad_request("Missing key name"))
    } else {
        Ok(request.take_rest())
    }
}

/// `true` or `false`; a change without a condition is always `true`.
fn changed(request: &Request<'_>, outcome: Outcome, conditional: bool) -> Result<Reply, Fault> {
    match outcome {
        Outcome::Done(done) => Ok(request.json(&(done || !conditional), 5)),
        Outcome::Refused(why) => Err(Fault::internal(why)),
        Outcome::Txn(_) | Outcome::Session(_) | Outcome::Prepared(_) => Err(unexpected()),
    }
}

/// The agent answered another question than was asked.
pub(crate) fn unexpected() -> Fault {
    Fault::internal("The agent's answer does not fit the request; this is a bug, please report it")
}

/// Many entries as JSON, with their values.
struct Entries {
    entries: Vec<Arc<KvEntry>>,
    /// Whether they come with their fences.
    fence: bool,
}

impl Serialize for Entries {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fence = self.fence;
        let json = |entry| Entry {
            entry,
            value: true,
            fence,
        };
        serializer.collect_seq(self.entries.iter().map(json))
    }
}

/// Keys as JSON.
struct Keys(Vec<Bytes>);

impl Serialize for Keys {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|key| Text(key)))
    }
}

/// An entry as JSON.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) entry: &'a Arc<KvEntry>,
    /// Whether the value is given, or `null` in its place.
    pub(crate) value: bool,
    /// Whether the fence of a locked entry is given. Only those who ask for it get it: others may not expect such a member.
    pub(crate) fence: bool,
}

impl Serialize for Entry<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let KvEntry {
            key,
            value,
            flags,
            lock_index,
            holder,
            create_index,
            modify_index,
        } = &**self.entry;
        let mut fields = serializer.serialize_struct("KVPair", 8)?;
        fields.serialize_field("LockIndex", lock_index)?;
        fields.serialize_field("Key", &Text(key))?;
        fields.serialize_field("Flags", flags)?;
        fields.serialize_field("Value", &Blob(if self.value { value } else { b"" }))?;
        match holder {
            Some(Holder { session, .. }) => fields.serialize_field("Session", session)?,
            None => fields.skip_field("Session")?,
        }
        fields.serialize_field("CreateIndex", &create_index.0)?;
        fields.serialize_field("ModifyIndex", &modify_index.0)?;
        match holder {
            Some(Holder { fence, .. }) if self.fence => fields.serialize_field("LictorFence", fence)?,
            Some(_) | None => fields.skip_field("LictorFence")?,
        }
        fields.end()
    }
}

/// About how many bytes an entry is as JSON.
pub(crate) fn size(entry: &KvEntry) -> usize {
    entry.key.len() + entry.value.len().div_ceil(3) * 4 + 192
}

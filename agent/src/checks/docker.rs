//! Programs that are run within a container, by Docker's API on its socket.

use std::path::Path;
use std::time::Duration;

use async_net::unix::UnixStream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use ureq_proto::http::{HeaderValue, Method, Request, Uri, header};

use super::exchange::{self, Response};
use super::tail::Tail;
use super::text::{duration, lossy, reason};
use super::{Limit, Outcome, script};

/// The most bytes of an answer that is not the output of a program.
const ANSWER_MAX: usize = 64 * 1024;

/// What may stand as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Runs a command in a container. Docker has no way to kill it when its time is over: it goes on, and nobody listens.
pub(super) async fn probe(
    socket: &Path,
    container: &str,
    shell: &str,
    args: &[String],
    timeout: Duration,
    output_max: usize,
) -> Outcome {
    let mut output = Tail::new(output_max);
    let docker = Docker(socket);
    let run = docker.run(container, shell, args, &mut output);
    match Limit::after(timeout).cut(run).await {
        Some(Ok(code)) => Outcome {
            status: script::meaning_of_code(Some(code)),
            output: output.into_text(),
        },
        Some(Err(why)) => Outcome::critical(why),
        None => Outcome::critical(format!(
            "Timed out ({}) running check\n\n{}",
            duration(timeout),
            output.into_text()
        )),
    }
}

struct Docker<'a>(&'a Path);

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "Id")]
    id: String,
}

#[derive(Deserialize)]
struct Inspected {
    #[serde(rename = "ExitCode")]
    exit_code: Option<i64>,
}

impl Docker<'_> {
    async fn run(
        &self,
        container: &str,
        shell: &str,
        args: &[String],
        output: &mut Tail,
    ) -> Result<i64, String> {
        let create = |why: String| format!("create exec failed for container {container}: {why}");
        // A shell has something to read only if there is one line.
        let command: Vec<&str> = match args {
            [line] if !shell.is_empty() => vec![shell, "-c", line],
            args => args.iter().map(String::as_str).collect(),
        };
        let asked = json!({
            "AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Tty": false, "Cmd": command,
        });
        let path = format!("/containers/{}/exec", utf8_percent_encode(container, SEGMENT));
        let created: Created = self
            .ask(Method::POST, &path, &asked.to_string())
            .await
            .map_err(create)?;
        let id = utf8_percent_encode(&created.id, SEGMENT).to_string();

        let start = |why: String| format!("start exec failed for container {container}: {why}");
        let asked = json!({"Detach": false, "Tty": false}).to_string();
        let mut response = self
            .send(Method::POST, &format!("/exec/{id}/start"), &asked)
            .await
            .map_err(start)?;
        read_output(&mut response, output).await.map_err(start)?;

        let inspect = |why: String| format!("inspect exec failed for container {container}: {why}");
        let inspected: Inspected = self
            .ask(Method::GET, &format!("/exec/{id}/json"), "")
            .await
            .map_err(inspect)?;
        inspected
            .exit_code
            .ok_or_else(|| inspect("the program has closed its output, but has not ended".to_owned()))
    }

    async fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<T, String> {
        let mut response = self.send(method, path, body).await?;
        let mut answer = Vec::new();
        response
            .read_up_to(ANSWER_MAX, &mut answer)
            .await
            .map_err(|why| why.to_string())?;
        serde_json::from_slice(&answer)
            .map_err(|why| format!("cannot read what Docker answers to {path}: {why}"))
    }

    /// Sends a request; an answer that is no success is an error, too.
    async fn send(&self, method: Method, path: &str, body: &str) -> Result<Response, String> {
        let stream = UnixStream::connect(self.0).await.map_err(|error| {
            let socket = self.0.display();
            format!(
                "dial unix {socket}: connect: {}: Docker checks need Docker, and a user who may use its socket",
                reason(&error)
            )
        })?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse::<Uri>()
            .map_err(|why| format!("cannot ask Docker for {path}: {why}"))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("docker"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut response = exchange::send(stream, request, body.as_bytes())
            .await
            .map_err(|why| why.to_string())?;
        if response.status.is_success() {
            return Ok(response);
        }
        let mut answer = Vec::new();
        // What the status says is known already; this only says more.
        let _ = response.read_up_to(ANSWER_MAX, &mut answer).await;
        let said = lossy(answer);
        Err(format!(
            "{} {}: {}",
            response.status.as_str(),
            response.reason,
            said.trim_end()
        ))
    }
}

/// Reads what the program says on both its outputs: frames, each with a head of which the last four bytes are its length.
async fn read_output(response: &mut Response, output: &mut Tail) -> Result<(), String> {
    let mut piece = vec![0; 16 * 1024];
    let mut head = Vec::with_capacity(8);
    let mut left = 0;
    loop {
        let length = response.read(&mut piece).await.map_err(|why| why.to_string())?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            if left == 0 {
                let (part, more) = rest.split_at(rest.len().min(8 - head.len()));
                head.extend_from_slice(part);
                rest = more;
                if let Some(bytes) = head.last_chunk::<4>().filter(|_| head.len() == 8) {
                    left = u32::from_be_bytes(*bytes) as usize;
                    head.clear();
                }
                continue;
            }
            let (said, more) = rest.split_at(rest.len().min(left));
            output.push(said);
            left -= said.len();
            rest = more;
        }
    }
}

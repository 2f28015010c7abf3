//! `lictor members`: who is in the pool.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::client::{self, Client, null_is_empty};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};
use crate::{pattern, table};

/// The exit code if there is no such member.
const NOBODY: u8 = 2;

pub(crate) const COMMAND: Command = Command {
    name: "members",
    summary: "Lists the members of the cluster",
    usage: "[options]",
    about: "
Lists the members that an agent knows, with the state in which it believes
them to be: alive, leaving, left or failed.

    $ lictor members
    $ lictor members -status=\"failed|left\"

The exit code is 2 if no member is listed.",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "detailed",
                        takes: Takes::Nothing,
                        help: "Print all tags of each member, in place of those that have a column. The default value is false.",
                    },
                    Flag {
                        name: "segment",
                        takes: Takes::Text("string"),
                        help: "List only the members of this network segment. Lictor has no segments, so an agent refuses any name but the default, \"_all\".",
                    },
                    Flag {
                        name: "status",
                        takes: Takes::Text("string"),
                        help: "List only members whose state matches this regular expression. The default value is \".*\".",
                    },
                    Flag {
                        name: "wan",
                        takes: Takes::Nothing,
                        help: "List the servers of all data centers, which only servers know. The default value is false.",
                    },
                ],
            },
        ],
        not_yet: &["filter", "partition"],
        run,
    },
};

/// A member as the API tells it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    addr: String,
    port: u16,
    #[serde(default, deserialize_with = "null_is_empty")]
    tags: BTreeMap<String, String>,
    status: u64,
}

impl Member {
    fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }

    fn is_server(&self) -> bool {
        self.tag("role") == "consul"
    }

    /// Servers are in all segments, and whoever names none is in the default one.
    fn segment(&self) -> &str {
        match self.tag("segment") {
            "" if self.is_server() => "<all>",
            "" => "<default>",
            named => named,
        }
    }

    fn address(&self) -> String {
        if self.addr.contains(':') {
            format!("[{}]:{}", self.addr, self.port)
        } else {
            format!("{}:{}", self.addr, self.port)
        }
    }

    fn status(&self) -> &'static str {
        match self.status {
            0 => "none",
            1 => "alive",
            2 => "leaving",
            3 => "left",
            4 => "failed",
            _ => "unknown",
        }
    }

    /// What `-detailed` shows.
    fn details(&self) -> [String; 4] {
        let mut tags = self.tags.clone();
        tags.insert("segment".to_owned(), self.segment().to_owned());
        let tags: Vec<_> = tags
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        [
            self.name.clone(),
            self.address(),
            self.status().to_owned(),
            tags.join(","),
        ]
    }

    /// What is shown else. A member of another kind has none of an agent's tags.
    fn summary(&self) -> [String; 8] {
        let kind = match self.tag("role") {
            "consul" => "server",
            "node" => "client",
            _ => "unknown",
        };
        let [build, protocol, datacenter, segment] = if kind == "unknown" {
            [""; 4]
        } else {
            [self.build(), self.tag("vsn"), self.tag("dc"), self.segment()]
        };
        [
            self.name.clone(),
            self.address(),
            self.status().to_owned(),
            kind.to_owned(),
            build.to_owned(),
            protocol.to_owned(),
            datacenter.to_owned(),
            segment.to_owned(),
        ]
    }

    /// The version, without the revision that may follow it.
    fn build(&self) -> &str {
        match self.tag("build") {
            "" => "< 0.3",
            build => build.split(':').next().unwrap_or(build),
        }
    }
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let status = pattern::compile(args.text("status").unwrap_or(".*"))
        .map_err(|error| Failure::new(format!("Failed to compile status regexp: {error}")))?;
    let mut query = vec![("segment", args.text("segment").unwrap_or("_all"))];
    if args.switch("wan") {
        query.push(("wan", "1"));
    }
    let found: Option<Vec<Member>> = Client::new(args, console)?
        .read("agent/members", query)
        .map_err(|error| Failure::new(format!("Error retrieving members: {error}")))?;
    let mut members = found.unwrap_or_default();
    members.retain(|member| status.is_match(member.status()));
    if members.is_empty() {
        return Err(Failure::silent(NOBODY));
    }
    members.sort_by(|a, b| (a.segment(), &a.name).cmp(&(b.segment(), &b.name)));
    if args.switch("detailed") {
        let heading = ["Node", "Address", "Status", "Tags"].map(str::to_owned);
        let rows = members.iter().map(Member::details);
        table::write(console, &[heading].into_iter().chain(rows).collect::<Vec<_>>())
    } else {
        let heading = [
            "Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment",
        ];
        let rows = members.iter().map(Member::summary);
        let heading = [heading.map(str::to_owned)];
        table::write(console, &heading.into_iter().chain(rows).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    /// Three servers and a client of Consul 1.8.7, one of them gone.
    const POOL: &str = r#"[
        {"Name":"s1","Addr":"127.66.0.1","Port":8301,"Tags":{"acls":"0","build":"1.8.7:","dc":"dc1","expect":"3","ft_fs":"1","id":"97fe3ba5-c64a-c2f4-1f76-2d89d21c20b0","port":"8300","raft_vsn":"3","role":"consul","segment":"","vsn":"2","vsn_max":"3","vsn_min":"2","wan_join_port":"8302"},"Status":1,"ProtocolMin":1,"ProtocolMax":5,"ProtocolCur":2,"DelegateMin":2,"DelegateMax":5,"DelegateCur":4},
        {"Name":"c4","Addr":"127.66.0.4","Port":8301,"Tags":{"acls":"0","build":"1.8.7:","dc":"dc1","id":"30382430-75a9-cfcf-6dd4-aa61c19afe29","role":"node","segment":"","vsn":"2","vsn_max":"3","vsn_min":"2"},"Status":1,"ProtocolMin":1,"ProtocolMax":5,"ProtocolCur":2,"DelegateMin":2,"DelegateMax":5,"DelegateCur":4},
        {"Name":"s3","Addr":"127.66.0.3","Port":8301,"Tags":{"acls":"0","build":"1.8.7:","dc":"dc1","role":"consul","segment":"","vsn":"2"},"Status":4},
        {"Name":"s2","Addr":"127.66.0.2","Port":8301,"Tags":{"acls":"0","build":"1.8.7:","dc":"dc1","role":"consul","segment":"","vsn":"2"},"Status":1}]"#;

    /// What no agent of today says, and must not confuse anybody.
    const ODD: &str = r#"[
        {"Name":"b","Addr":"10.0.0.1","Port":8301,"Tags":{"role":"node","build":"1.9.0:abc","dc":"dc1","vsn":"2","segment":""},"Status":0},
        {"Name":"a","Addr":"::1","Port":83,"Tags":{"role":"consul","dc":"dc1","vsn":"3","segment":"","x":"y|z"},"Status":1},
        {"Name":"\u00fc\u00e4","Addr":"10.0.0.3","Port":8301,"Tags":{"role":"node","build":"lictor","dc":"dc10","vsn":"2","segment":"seg"},"Status":2},
        {"Name":"other","Addr":"10.0.0.4","Port":8301,"Tags":{"foo":"bar"},"Status":3},
        {"Name":"bare","Addr":"10.0.0.5","Port":8301,"Tags":null,"Status":9}]"#;

    #[test]
    fn members_are_listed_servers_first() {
        let table = "\
Node  Address          Status  Type    Build  Protocol  DC   Segment
s1    127.66.0.1:8301  alive   server  1.8.7  2         dc1  <all>
s2    127.66.0.2:8301  alive   server  1.8.7  2         dc1  <all>
s3    127.66.0.3:8301  failed  server  1.8.7  2         dc1  <all>
c4    127.66.0.4:8301  alive   client  1.8.7  2         dc1  <default>
";
        let asked = vec!["GET /v1/agent/members?segment=_all".to_owned()];
        assert_eq!(ask(200, POOL, &["members"]), (Ran::ok(table), asked.clone()));
        assert_eq!(ask(200, POOL, &["members", "ignored"]), (Ran::ok(table), asked));
    }

    #[test]
    fn details_are_all_tags() {
        let table = "\
Node  Address          Status  Tags
s3    127.66.0.3:8301  failed  acls=0,build=1.8.7:,dc=dc1,role=consul,segment=<all>,vsn=2
";
        let (ran, _) = ask(200, POOL, &["members", "-detailed", "-status=failed"]);
        assert_eq!(ran, Ran::ok(table));
    }

    #[test]
    fn odd_members_have_a_line_too() {
        let table = [
            "Node   Address        Status   Type     Build   Protocol  DC    Segment\n",
            "a      [::1]:83       alive    server   < 0.3   3         dc1   <all>\n",
            "b      10.0.0.1:8301  none     client   1.9.0   2         dc1   <default>\n",
            "bare   10.0.0.5:8301  unknown  unknown                          \n",
            "other  10.0.0.4:8301  left     unknown                          \n",
            "\u{fc}\u{e4}     10.0.0.3:8301  leaving  client   lictor  2         dc10  seg\n",
        ];
        assert_eq!(ask(200, ODD, &["members"]).0, Ran::ok(table.concat()));
        let table = [
            "Node   Address        Status   Tags\n",
            "a      [::1]:83       alive    dc=dc1,role=consul,segment=<all>,vsn=3,x=y|z\n",
            "b      10.0.0.1:8301  none     build=1.9.0:abc,dc=dc1,role=node,segment=<default>,vsn=2\n",
            "bare   10.0.0.5:8301  unknown  segment=<default>\n",
            "other  10.0.0.4:8301  left     foo=bar,segment=<default>\n",
            "\u{fc}\u{e4}     10.0.0.3:8301  leaving  build=lictor,dc=dc10,role=node,segment=seg,vsn=2\n",
        ];
        assert_eq!(
            ask(200, ODD, &["members", "-detailed"]).0,
            Ran::ok(table.concat())
        );
    }

    #[test]
    fn the_pool_and_the_segment_are_the_agents_to_choose() {
        for (line, target) in [
            (
                &["members", "-wan"][..],
                "GET /v1/agent/members?segment=_all&wan=1",
            ),
            (
                &["members", "-wan", "-segment=x"],
                "GET /v1/agent/members?segment=x&wan=1",
            ),
            (&["members", "-segment="], "GET /v1/agent/members?segment="),
        ] {
            assert_eq!(ask(200, POOL, line).1, [target]);
        }
    }

    #[test]
    fn nobody_is_told_by_the_exit_code() {
        let nobody = Ran {
            code: 2,
            out: String::new(),
            err: String::new(),
        };
        for (body, line) in [
            (POOL, &["members", "-status=left"][..]),
            (POOL, &["members", "-status=ALIVE"]),
            ("[]", &["members"]),
            ("null", &["members", "-detailed"]),
        ] {
            assert_eq!(ask(200, body, line).0, nobody, "{line:?}");
        }
        let (ran, _) = ask(200, POOL, &["members", "-status=^al"]);
        assert_eq!(ran.out.lines().count(), 4);
    }

    #[test]
    fn failures() {
        for (status, body, line, message) in [
            (
                500,
                "boo\nfoo\n",
                &["members"][..],
                "Error retrieving members: Unexpected response code: 500 (boo\nfoo\n)",
            ),
            (
                404,
                "",
                &["members"],
                "Error retrieving members: Unexpected response code: 404 ()",
            ),
            (
                200,
                "x",
                &["members"],
                "Error retrieving members: cannot understand the agent's answer: expected value at line 1 column 1",
            ),
            (
                200,
                POOL,
                &["members", "-status=("],
                "Failed to compile status regexp: error parsing regexp: missing closing ): `(`",
            ),
        ] {
            assert_eq!(ask(status, body, line).0, Ran::error(message));
        }
        let ran = crate::console::testing::run(&["members", "-http-addr=127.0.0.1:1"]);
        assert_eq!(
            ran,
            Ran::error(
                "Error retrieving members: Get \"http://127.0.0.1:1/v1/agent/members?segment=_all\": \
                 dial tcp 127.0.0.1:1: connect: connection refused"
            )
        );
    }
}

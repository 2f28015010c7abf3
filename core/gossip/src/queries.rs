//! Queries: one member asks, those that are meant answer, directly and, if that is wanted, through others as well.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_machine::{Instant, NodeId, Rng, Token};

use crate::event::{
    IncomingQuery, MAX_QUERY_ANSWER_BYTES, MAX_QUERY_BYTES, MAX_QUERY_RELAY, QueryAnswer, QueryId,
    QueryParams, QueryResponse, QueryStatement,
};
use crate::io::Refusal;
use crate::lamport::{LamportClock, LamportTime};
use crate::member::Member;

/// The most queries of this member that are open at once.
pub(crate) const MAX_ASKED: usize = 256;

/// The most queries of others that can be answered at once; of more, the oldest are forgotten.
const MAX_OPEN: usize = 1024;

/// How many queries are known again when they come by another way.
const MAX_SEEN: usize = 2048;

/// The longest time that a query may wait for answers.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_mins(10);

/// A query waits for this many rounds of gossip, times the decimal logarithm of the pool's size, if it does not say otherwise.
const TIMEOUT_ROUNDS: u32 = 16;

/// The queries that this member has asked, heard of, and may still answer.
#[derive(Debug)]
pub(crate) struct Queries {
    gossip_interval: Duration,
    clock: LamportClock,
    /// The latest queries that were seen.
    seen: BTreeSet<QueryId>,
    /// The latest query that had to make room; what is not later is not taken in again.
    floor: Option<QueryId>,
    asked: BTreeMap<QueryId, Asked>,
    open: BTreeMap<QueryId, Open>,
    /// When each of `asked` and `open` is over.
    ends: BTreeSet<(Instant, QueryId)>,
}

/// A query of this member.
#[derive(Debug)]
struct Asked {
    token: Token,
    ends: Instant,
    relay: u8,
    acknowledged: BTreeSet<NodeId>,
    answered: BTreeSet<NodeId>,
}

/// A query that this member may answer.
#[derive(Debug)]
struct Open {
    ends: Instant,
    relay: u8,
}

/// Why a query cannot be asked, or answered. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It has no name.
    #[error("a query must have a name")]
    NoName,
    /// It is too long for a datagram.
    #[error("a query may have {MAX_QUERY_BYTES} bytes with its name, content and filters, this one has {0}")]
    TooLong(usize),
    /// It asks for too many helpers.
    #[error("at most {MAX_QUERY_RELAY} members can relay the answers to a query, not {0}")]
    Relay(u8),
    /// It would wait for too long.
    #[error("a query can wait for answers for more than 0 s and at most {} s", MAX_TIMEOUT.as_secs())]
    Timeout,
    /// Too many are open.
    #[error("{MAX_ASKED} queries are waiting for answers; wait until one of them is over")]
    TooMany,
    /// The query is not known here, or its time is over.
    #[error("the query is over, or never reached this member")]
    Over,
    /// The answer is too long for a datagram.
    #[error("an answer may have {MAX_QUERY_ANSWER_BYTES} bytes, this one has {0}")]
    AnswerTooLong(usize),
}

/// What a query means to the member that it reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// For the application, if this member is meant.
    pub(crate) deliver: Option<IncomingQuery>,
    /// Whether this member is to say that the query has reached it.
    pub(crate) acknowledge: bool,
}

/// What somebody who was asked says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// That the query has reached it.
    Ack(Token, NodeId),
    /// Its answer.
    Response(Token, QueryResponse),
}

impl Queries {
    /// No queries yet; the clock goes on after `remembered`.
    pub(crate) fn new(gossip_interval: Duration, remembered: LamportTime) -> Self {
        Self {
            gossip_interval,
            clock: LamportClock::new(remembered),
            seen: BTreeSet::new(),
            floor: None,
            asked: BTreeMap::new(),
            open: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// The highest time that was seen.
    pub(crate) const fn time(&self) -> LamportTime {
        self.clock.now()
    }

    /// Takes over the time of a pool that this member joins.
    ///
    /// # Errors
    /// It cannot be true; nothing has changed.
    pub(crate) fn adopt(&mut self, time: LamportTime) -> Result<(), Refusal> {
        self.clock.adopt(time).map_err(|_| Refusal::Jump)
    }

    /// Opens a query of `origin`, this member, in a pool of `members`. Returns what is to be told everybody, this member included.
    ///
    /// # Errors
    /// Why it cannot be asked; nothing has changed.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        origin: NodeId,
        token: Token,
        params: QueryParams,
        members: usize,
        rng: &mut Rng,
    ) -> Result<QueryStatement, QueryError> {
        if params.name.is_empty() {
            return Err(QueryError::NoName);
        }
        if params.relay > MAX_QUERY_RELAY {
            return Err(QueryError::Relay(params.relay));
        }
        if self.asked.len() == MAX_ASKED {
            return Err(QueryError::TooMany);
        }
        let timeout = params.timeout.unwrap_or_else(|| self.default_timeout(members));
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err(QueryError::Timeout);
        }
        let mut query = QueryStatement {
            id: QueryId {
                time: LamportTime(self.clock.now().0.saturating_add(1)),
                origin,
                nonce: 0,
            },
            name: params.name,
            payload: params.payload,
            nodes: params.nodes,
            tags: params.tags,
            relay: params.relay,
            acks: params.acks,
            timeout_ms: timeout.as_millis().max(1) as u32,
        };
        let timeout = query.timeout();
        let bytes = query.size();
        if bytes > MAX_QUERY_BYTES {
            return Err(QueryError::TooLong(bytes));
        }
        query.id.nonce = rng.next_u64() as u32;
        self.clock.increment();
        let ends = now + timeout;
        self.ends.insert((ends, query.id));
        let asked = Asked {
            token,
            ends,
            relay: query.relay,
            acknowledged: BTreeSet::new(),
            answered: BTreeSet::new(),
        };
        self.asked.insert(query.id, asked);
        Ok(query)
    }

    /// Takes in a query that has reached `me`. `None`: it had come before, or it is so old that nobody can tell.
    ///
    /// # Errors
    /// Its time cannot be true; nothing has changed.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        me: &Member,
        query: &QueryStatement,
    ) -> Result<Option<Heard>, Refusal> {
        let timeout = query.timeout();
        if timeout > MAX_TIMEOUT {
            return Err(Refusal::TooLarge);
        }
        if self.seen.contains(&query.id) || self.floor.is_some_and(|floor| query.id <= floor) {
            return Ok(None);
        }
        self.clock.witness(query.id.time).map_err(|_| Refusal::Jump)?;
        self.seen.insert(query.id);
        if self.seen.len() > MAX_SEEN {
            self.floor = self.seen.pop_first();
        }
        if !query.concerns(me) {
            return Ok(Some(Heard {
                deliver: None,
                acknowledge: false,
            }));
        }
        if self.open.len() == MAX_OPEN
            && let Some((id, oldest)) = self.open.pop_first()
        {
            self.forget_end(oldest.ends, id);
        }
        let ends = now + timeout;
        // Of a query of its own, the member knows the end already; both are over at once.
        self.ends.insert((ends, query.id));
        let relay = query.relay;
        self.open.insert(query.id, Open { ends, relay });
        Ok(Some(Heard {
            deliver: Some(IncomingQuery {
                id: query.id,
                name: query.name.clone(),
                payload: query.payload.clone(),
            }),
            acknowledge: query.acks,
        }))
    }

    /// Makes this member's answer to a query, and says how many others are to pass it on. Each query can be answered once.
    ///
    /// # Errors
    /// Why it cannot be answered; nothing has changed.
    pub(crate) fn respond(
        &mut self,
        me: NodeId,
        query: QueryId,
        payload: Bytes,
    ) -> Result<(QueryAnswer, u8), QueryError> {
        if payload.len() > MAX_QUERY_ANSWER_BYTES {
            return Err(QueryError::AnswerTooLong(payload.len()));
        }
        let open = self.open.remove(&query).ok_or(QueryError::Over)?;
        self.forget_end(open.ends, query);
        let answer = QueryAnswer {
            query,
            from: me,
            payload: Some(payload),
        };
        Ok((answer, open.relay))
    }

    /// Takes in an answer that `sender` brought. `None`: it has come before, or the query is over.
    ///
    /// # Errors
    /// Somebody brought another's answer to a query that did not ask for that.
    pub(crate) fn collect(
        &mut self,
        sender: NodeId,
        answer: QueryAnswer,
        members_max: usize,
    ) -> Result<Option<Said>, Refusal> {
        let Some(asked) = self.asked.get_mut(&answer.query) else {
            return Ok(None);
        };
        if answer.from != sender && asked.relay == 0 {
            return Err(Refusal::Forged);
        }
        let heard_of = if answer.payload.is_some() {
            &mut asked.answered
        } else {
            &mut asked.acknowledged
        };
        if heard_of.len() >= members_max || !heard_of.insert(answer.from) {
            return Ok(None);
        }
        let from = answer.from;
        Ok(Some(match answer.payload {
            Some(payload) => Said::Response(asked.token, QueryResponse { from, payload }),
            None => Said::Ack(asked.token, from),
        }))
    }

    /// When the next query is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// The next query of this member that is over by now.
    pub(crate) fn poll_over(&mut self, now: Instant) -> Option<Token> {
        while let Some((at, id)) = self.ends.first().copied()
            && at <= now
        {
            self.ends.pop_first();
            self.open.remove(&id);
            if let Some(asked) = self.asked.remove(&id) {
                return Some(asked.token);
            }
        }
        None
    }

    /// Serf's: long enough for the query to spread and for the answers to come.
    fn default_timeout(&self, members: usize) -> Duration {
        let digits = members.checked_ilog10().unwrap_or(0) + 1;
        (self.gossip_interval * TIMEOUT_ROUNDS * digits).min(MAX_TIMEOUT)
    }

    /// One of the two for whom the query has this end no longer cares.
    fn forget_end(&mut self, ends: Instant, id: QueryId) {
        let wanted = |other: Option<Instant>| other == Some(ends);
        let asked = self.asked.get(&id).map(|asked| asked.ends);
        let open = self.open.get(&id).map(|open| open.ends);
        if !wanted(asked) && !wanted(open) {
            self.ends.remove(&(ends, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Incarnation, MemberState, Tags};

    const ME: NodeId = NodeId(1);

    fn me() -> Member {
        Member {
            id: ME,
            name: "n1".to_owned(),
            address: ([127, 0, 0, 1], 8301).into(),
            tags: Tags::new(),
            incarnation: Incarnation(1),
            state: MemberState::Alive,
        }
    }

    fn queries() -> Queries {
        Queries::new(Duration::from_millis(200), LamportTime(0))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn foreign(time: u64) -> QueryStatement {
        QueryStatement {
            id: QueryId {
                time: LamportTime(time),
                origin: NodeId(2),
                nonce: 7,
            },
            name: "who".to_owned(),
            payload: Bytes::new(),
            nodes: Vec::new(),
            tags: Vec::new(),
            relay: 0,
            acks: false,
            timeout_ms: 1000,
        }
    }

    fn params() -> QueryParams {
        QueryParams {
            name: "who".to_owned(),
            payload: Bytes::new(),
            nodes: Vec::new(),
            tags: Vec::new(),
            relay: 0,
            acks: false,
            timeout: None,
        }
    }

    #[test]
    fn it_waits_longer_in_larger_pools() {
        for (members, rounds) in [
            (0, 16),
            (1, 16),
            (9, 16),
            (10, 32),
            (99, 32),
            (100, 48),
            (10_000, 80),
        ] {
            let mut queries = queries();
            let asked = queries.ask(at(0), ME, Token(1), params(), members, &mut Rng::new(1));
            assert_eq!(asked.unwrap().timeout_ms, 200 * rounds, "{members}");
            assert_eq!(queries.deadline(), Some(at(200 * u64::from(rounds))));
        }
    }

    #[test]
    fn what_was_heard_is_heard_once_and_the_memory_of_it_is_bounded() {
        let mut queries = queries();
        let many = MAX_SEEN as u64 + 10;
        for time in 1..=many {
            assert!(queries.hear(at(0), &me(), &foreign(time)).unwrap().is_some());
            assert_eq!(queries.hear(at(0), &me(), &foreign(time)), Ok(None));
        }
        // Too old to be known for sure, and so it is taken for known.
        assert_eq!(queries.hear(at(0), &me(), &foreign(1)), Ok(None));
        assert_eq!(queries.seen.len(), MAX_SEEN);
        assert_eq!((queries.open.len(), queries.ends.len()), (MAX_OPEN, MAX_OPEN));
        assert_eq!(queries.time(), LamportTime(many));
        assert_eq!(
            queries.respond(ME, foreign(1).id, Bytes::new()),
            Err(QueryError::Over),
            "it had to make room"
        );
        assert!(queries.respond(ME, foreign(many).id, Bytes::new()).is_ok());
        assert_eq!(queries.poll_over(at(1000)), None, "none of them is its own");
        assert_eq!((queries.open.len(), queries.deadline()), (0, None));
    }

    #[test]
    fn a_query_that_cannot_be_true_changes_nothing() {
        let mut queries = queries();
        let far = foreign(2 + crate::lamport::MAX_JUMP);
        assert_eq!(queries.hear(at(0), &me(), &far), Err(Refusal::Jump));
        let long = QueryStatement {
            timeout_ms: u32::MAX,
            ..foreign(1)
        };
        assert_eq!(queries.hear(at(0), &me(), &long), Err(Refusal::TooLarge));
        assert_eq!((queries.time(), queries.deadline()), (LamportTime(0), None));
    }

    /// The member's own answer ends its part, and the query goes on.
    #[test]
    fn an_own_query_is_over_when_its_time_is_and_not_before() {
        let mut queries = queries();
        let query = queries
            .ask(at(0), ME, Token(9), params(), 3, &mut Rng::new(1))
            .unwrap();
        let heard = queries.hear(at(0), &me(), &query).unwrap().unwrap();
        assert_eq!(heard.deliver.map(|query| query.name), Some("who".to_owned()));
        let (answer, _) = queries.respond(ME, query.id, Bytes::new()).unwrap();
        assert!(matches!(
            queries.collect(ME, answer.clone(), 10),
            Ok(Some(Said::Response(Token(9), _)))
        ));
        assert_eq!(queries.collect(ME, answer.clone(), 10), Ok(None), "once");
        assert_eq!(queries.poll_over(at(3199)), None);
        assert_eq!(queries.poll_over(at(3200)), Some(Token(9)));
        assert_eq!(queries.collect(NodeId(2), answer, 10), Ok(None), "too late");
        assert_eq!((queries.asked.len(), queries.ends.len()), (0, 0));
    }

    #[test]
    fn the_number_of_answers_is_bounded() {
        let mut queries = queries();
        let query = queries
            .ask(at(0), ME, Token(9), params(), 3, &mut Rng::new(1))
            .unwrap();
        let answered = (10..20)
            .filter(|from| {
                let from = NodeId(*from);
                let answer = QueryAnswer {
                    query: query.id,
                    from,
                    payload: Some(Bytes::new()),
                };
                queries.collect(from, answer, 3).unwrap().is_some()
            })
            .count();
        assert_eq!(answered, 3);
    }
}

//! The attacks that a running guest can make. The guest `guests/hostile` makes them; the last part of the request's
//! path selects the attack.

/// One attack.
pub(crate) struct Attack {
    /// The name of the attack, which `docs/reference/attacks.md` also lists.
    pub(crate) name: &'static str,
    /// The group of attacks that one test makes together.
    pub(crate) kind: &'static str,
    /// The requests that start the attack.
    pub(crate) ask: AttackRequest,
    /// The expected result of each request.
    pub(crate) must: Must,
}

/// The requests that start an attack. Each variant contains the path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AttackRequest {
    /// A GET request.
    Get(&'static str),
    /// A POST request with a body.
    Post(&'static str, &'static str),
    /// A POST request whose body does not end.
    Endless(&'static str),
    /// A POST request whose body is never sent.
    Stalled(&'static str),
    /// A number of concurrent GET requests.
    Storm(&'static str, usize),
    /// A GET request whose response is not read.
    Unread(&'static str),
}

/// The expected result of each request of an attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Must {
    /// The allowed statuses; 0 means no response.
    pub(crate) status: &'static [u16],
    /// Whether the response must be cut off.
    pub(crate) broken: bool,
    /// A text that must occur in the reason of the failure in the log; empty if the request does not fail.
    pub(crate) log: &'static str,
    /// Texts that the response must contain.
    pub(crate) contains: &'static [&'static str],
    /// Texts that the response must not contain.
    pub(crate) never: &'static [&'static str],
}

const NOTHING: Must = Must { status: &[200], broken: false, log: "", contains: &[], never: &[] };

/// The expected result if the request ends at its deadline.
const DEADLINE: Must = Must { status: &[504], log: "no response within the deadline of 400 ms", ..NOTHING };

/// The expected result if the request ends at its deadline, after the response has started or just before it starts.
const CUT_OFF: Must = Must { broken: true, ..DEADLINE_LATE };
const DEADLINE_LATE: Must = Must { status: &[200, 504], ..DEADLINE };

/// Returns the expected result if the guest traps. `log` is a part of the trap's message.
const fn trap(log: &'static str) -> Must {
    Must { status: &[500], log, ..NOTHING }
}

/// Returns the expected result if the platform refuses an operation and the guest reports the error.
const fn refused(contains: &'static [&'static str]) -> Must {
    Must { contains, never: &["got "], ..NOTHING }
}

const fn attack(kind: &'static str, name: &'static str, ask: AttackRequest, must: Must) -> Attack {
    Attack { name, kind, ask, must }
}

/// All attacks.
pub(crate) const CORPUS: &[Attack] = &[
    attack("loops", "endless loop", AttackRequest::Get("loop"), DEADLINE),
    attack("loops", "endless loop deep in calls", AttackRequest::Get("nested-loop"), DEADLINE),
    attack("loops", "endless loop after a wait", AttackRequest::Get("loop-later"), DEADLINE),
    attack("loops", "endless loop in a task", AttackRequest::Get("loop-in-task"), CUT_OFF),
    attack("loops", "endless loop after the response", AttackRequest::Get("loop-after-answer"), NOTHING),
    attack("loops", "flood of host calls", AttackRequest::Get("host-calls"), DEADLINE),
    attack("loops", "flood of awaited host calls", AttackRequest::Get("waiting-calls"), DEADLINE),
    attack("loops", "endless yielding", AttackRequest::Get("yields"), DEADLINE),
    attack("loops", "tasks that create tasks", AttackRequest::Get("tasks"), Must { status: &[500, 504], ..NOTHING }),
    attack("loops", "endless wait", AttackRequest::Get("wait"), DEADLINE),
    attack("loops", "endless sleep", AttackRequest::Get("sleep"), DEADLINE),
    attack(
        "loops",
        "trap storm",
        AttackRequest::Storm("trap", 100),
        Must { status: &[500, 503], log: "unreachable", ..NOTHING },
    ),
    attack("loops", "loop storm", AttackRequest::Storm("loop", 20), Must { status: &[504, 503], ..DEADLINE }),
    attack("loops", "exit", AttackRequest::Get("exit"), trap("called exit")),
    attack(
        "loops",
        "calls to itself over HTTP",
        AttackRequest::Get("self"),
        Must { status: &[200, 503, 504], ..NOTHING },
    ),
    attack("hoards", "memory bomb", AttackRequest::Get("memory"), trap("ran out of memory at its limit of 64 MiB")),
    attack("hoards", "stack bomb", AttackRequest::Get("recursion"), trap("call stack exhausted")),
    attack("hoards", "handle leak", AttackRequest::Get("handles"), trap("table has no free keys")),
    attack("hoards", "handle leak in WASI 0.2", AttackRequest::Get("pollables"), trap("table has no free keys")),
    attack("hoards", "stream leak", AttackRequest::Get("streams"), trap("handle limit exceeded")),
    attack("hoards", "subtask leak", AttackRequest::Get("subtasks"), Must { status: &[500, 504], ..NOTHING }),
    attack(
        "hoards",
        "large data behind each handle",
        AttackRequest::Get("heavy-methods"),
        Must { status: &[200, 500, 504], ..NOTHING },
    ),
    attack(
        "hoards",
        "large header fields in each handle",
        AttackRequest::Get("heavy-fields"),
        Must { status: &[500, 504], ..NOTHING },
    ),
    attack("hoards", "2⁶⁴ random bytes", AttackRequest::Get("random-bytes"), refused(&["random=1048576"])),
    attack(
        "hoards",
        "huge list as an argument",
        AttackRequest::Get("many-polls"),
        Must { status: &[200, 500, 504], ..NOTHING },
    ),
    attack("floods", "output flood", AttackRequest::Get("output"), DEADLINE),
    attack("floods", "huge text as an argument", AttackRequest::Get("large-output"), trap("")),
    attack("floods", "log injection", AttackRequest::Get("forged-lines"), NOTHING),
    attack("floods", "header flood", AttackRequest::Get("headers"), NOTHING),
    attack("floods", "huge header", AttackRequest::Get("large-header"), Must { status: &[200, 500], ..NOTHING }),
    attack("floods", "endless response", AttackRequest::Get("body"), CUT_OFF),
    attack("floods", "response that stops in the middle", AttackRequest::Get("stuck-body"), CUT_OFF),
    attack("floods", "response that is not read", AttackRequest::Unread("body"), Must { broken: true, ..NOTHING }),
    attack("floods", "request that is not read", AttackRequest::Endless("unread-body"), DEADLINE),
    attack("floods", "request that is read slowly", AttackRequest::Endless("slow-reader"), DEADLINE),
    attack("floods", "request that does not arrive", AttackRequest::Stalled("slow-reader"), DEADLINE),
    attack("floods", "key-value flood", AttackRequest::Get("keys?bytes=1048576"), DEADLINE),
    attack(
        "floods",
        "huge value",
        AttackRequest::Get("large-value?bytes=9437184"),
        refused(&["more than the maximum of 8 MiB"]),
    ),
    attack(
        "reaches",
        "path escapes",
        AttackRequest::Post(
            "files",
            "/etc/passwd\n/data/../secret.txt\n/data/up\n/data/etc/passwd\n../secret.txt\n/proc/self/environ\n/data//../../etc/passwd",
        ),
        refused(&["refused read /etc/passwd"]),
    ),
    attack("reaches", "sockets", AttackRequest::Get("sockets"), refused(&["refused connect"])),
    attack(
        "reaches",
        "internal addresses",
        AttackRequest::Post(
            "fetch",
            "169.254.169.254\nlocalhost:1\n10.0.0.1\n[::1]:80\nmetadata.google.internal\n2130706433",
        ),
        refused(&["refused"]),
    ),
    attack(
        "reaches",
        "ungranted stores and secrets",
        AttackRequest::Post("stores", "own\n../own\nown.redb\n/own\nown\\0\n*\n..\nDEFAULT\nneighbour/own"),
        refused(&["refused"]),
    ),
    attack("reaches", "environment of the host", AttackRequest::Get("environment"), refused(&[])),
    attack(
        "reaches",
        "SQL of other files",
        AttackRequest::Post(
            "sql",
            "ATTACH DATABASE 'own.sqlite' AS other\nATTACH '/etc/passwd' AS p\nVACUUM INTO 'stolen.sqlite'\nPRAGMA writable_schema = ON\nPRAGMA journal_mode = OFF\nSELECT load_extension('/lib/x.so')\nCREATE TEMP TABLE t (a)\nSELECT readfile('/etc/passwd')\nSELECT writefile('x', 'y')\nBEGIN IMMEDIATE\nSELECT fts3_tokenizer('simple')\nSELECT * FROM sqlite_dbpage\nCREATE VIRTUAL TABLE f USING fsdir('/')",
        ),
        refused(&["refused ATTACH"]),
    ),
    attack(
        "reaches",
        "endless SQL",
        AttackRequest::Post(
            "sql",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        ),
        DEADLINE,
    ),
    attack(
        "reaches",
        "endless SQL, many times at once",
        AttackRequest::Post(
            "sql?at-once=50",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        ),
        DEADLINE,
    ),
    attack(
        "hoards",
        "memory bomb in SQL",
        AttackRequest::Post(
            "sql?at-once=50",
            "WITH b (v) AS (SELECT hex(zeroblob(4000000))) SELECT (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b), (SELECT v FROM b)",
        ),
        Must { status: &[200, 504], never: &["got "], ..NOTHING },
    ),
    attack(
        "hoards",
        "queue of large SQL parameters",
        AttackRequest::Post("sql?at-once=1000&parameter-bytes=1048576", "SELECT length(?)"),
        Must { status: &[200, 500, 504], ..NOTHING },
    ),
];

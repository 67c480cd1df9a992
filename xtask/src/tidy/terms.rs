//! The technical terms that the rule about language counts: nouns and verbs that name a mechanism,
//! such as `lease` or `backpressure`. Never reads a file.
//!
//! The list was chosen so that 35 terms per 1,000 words separate good documentation from vague
//! prose: the comments of wasmtime, hyper, h2 and tokio contain 45 to 78. It therefore omits words
//! that a vague text about the product needs as well, such as the names of its resources.

/// The terms, sorted. Regular inflected forms count too.
#[rustfmt::skip]
const TERMS: &[&str] = &[
    "abort", "acknowledge", "acknowledgement", "acquire", "allocate", "allocation", "allocator", "archive", "async",
    "asynchronous", "atomic", "audit", "back-off", "backlog", "backpressure", "backtrace", "batch", "benchmark",
    "bounded", "bucket", "budget", "buffer", "cache", "cancel", "cancellation", "capacity", "channel", "checkpoint",
    "checksum", "chunk", "commit", "compile", "concurrent", "concurrently", "constant", "contention", "copy-on-write",
    "counter", "crash", "crate", "cursor", "deadline", "decode", "deduplication", "default", "dependency",
    "descriptor", "digest", "disconnect", "dispatch", "dispatcher", "dns", "drain", "durable", "encode", "enqueue",
    "environment", "epoch", "evict", "executor", "export", "failpoint", "fallback", "fault", "fetch", "flag", "flush",
    "future", "gate", "handler", "handshake", "hash", "header", "hook", "idempotency", "idempotent", "identifier",
    "idle", "import", "index", "initialise", "instantiate", "interface", "interrupt", "interval", "invariant", "ipv4",
    "ipv6", "isolate", "isolation", "journal", "kernel", "key-value", "latency", "lease", "library", "limit",
    "linker", "listener", "lock", "loopback", "mailbox", "malformed", "mask", "median", "metadata", "metric",
    "middleware", "module", "monotonic", "mutex", "native", "offset", "origin", "outbound", "overflow", "overhead",
    "override", "parameter", "parse", "parser", "payload", "percentile", "permit", "pipeline", "poll", "pool",
    "preempt", "preemption", "prefix", "preflight", "priority", "probe", "provider", "proxy", "queue", "ratio",
    "recover", "recovery", "redirect", "reservation", "resolver", "resource", "restart", "retention", "retry",
    "rollback", "rollout", "runtime", "sandbox", "schedule", "scheduler", "schema", "segment", "semaphore",
    "serialise", "session", "shard", "shim", "shutdown", "signal", "slot", "snapshot", "socket", "spawn", "stack",
    "stall", "standby", "static", "subscriber", "subscription", "suspend", "swap", "sync", "syntax", "sysroot",
    "task", "tcp", "thaw", "thread", "throttle", "throughput", "timeout", "timer", "timestamp", "tls", "token",
    "tombstone", "toolchain", "trailer", "transaction", "transition", "trap", "truncate", "upstream", "utf-8",
    "validate", "validation", "variable", "version", "wake", "warm-up", "webhook", "worker", "workspace", "yield",
];

/// Suffixes of inflected forms, and what replaces them in the term.
const SUFFIXES: [(&str, &str); 9] =
    [("", ""), ("s", ""), ("es", ""), ("d", ""), ("ed", ""), ("ing", ""), ("ing", "e"), ("ies", "y"), ("ied", "y")];

/// Returns whether a word, which may have punctuation around it, is a term or a form of one.
pub(super) fn is_term(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
    let word = word.strip_suffix("'s").unwrap_or(&word);
    SUFFIXES.iter().any(|(suffix, end)| {
        let stem = word.strip_suffix(suffix);
        stem.is_some_and(|stem| TERMS.binary_search(&format!("{stem}{end}").as_str()).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_are_sorted_and_unique() {
        assert!(TERMS.is_sorted_by(|before, after| before < after));
    }

    #[test]
    fn inflected_forms_and_punctuation_are_recognised() {
        for word in ["lease", "(leases),", "Leased", "leasing.", "queue's", "queueing", "retries", "retried", "fetches"]
        {
            assert!(is_term(word), "{word}");
        }
    }

    #[test]
    fn other_words_are_not_terms() {
        for word in ["", "—", "app", "please", "release", "poolside", "whoever"] {
            assert!(!is_term(word), "{word}");
        }
    }
}

//! Which arguments of a command are keys.
//!
//! Written down from the commands' own documentation. A command that is not here has no keys that we know of, so that no allow
//! that names keys matches it; neither has one that reaches further than the keys it names: scripts, patterns.

/// Where keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// From the first to the last in steps; a last one below zero counts from the end.
    At(usize, isize, usize),
    /// As many as the argument here says, behind it; and before it a destination.
    Counted(usize),
    /// The rest, halved, behind `STREAMS`.
    Streams,
    /// Of `SORT`.
    Sort,
    /// The first, and those behind `STORE` and `STOREDIST`.
    Stores,
    /// None that are known.
    Unknown,
}

/// Arguments after which a command can be decided on.
pub(super) fn needed(name: &[u8]) -> usize {
    if needs_all(name) {
        return usize::MAX;
    }
    match find(name) {
        Keys::At(_, last @ 0.., _) => last.unsigned_abs() + 1,
        Keys::At(..) | Keys::Counted(_) | Keys::Streams | Keys::Sort | Keys::Stores => usize::MAX,
        Keys::Unknown => 1,
    }
}

/// True for commands whose further arguments change what they act on, or what follows.
fn needs_all(name: &[u8]) -> bool {
    const ALL: [&[u8]; 3] = [b"client", b"copy", b"select"];
    ALL.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// True for commands that act on another database than the selected one, or may.
pub(super) fn leaves_database(name: &[u8], arguments: &[&[u8]]) -> bool {
    const ELSEWHERE: [&[u8]; 13] = [
        b"move",
        b"swapdb",
        b"migrate",
        b"flushall",
        b"eval",
        b"evalsha",
        b"eval_ro",
        b"evalsha_ro",
        b"fcall",
        b"fcall_ro",
        b"script",
        b"function",
        b"debug",
    ];
    let names_one = name.eq_ignore_ascii_case(b"copy")
        && arguments.iter().skip(3).any(|argument| argument.eq_ignore_ascii_case(b"db"));
    names_one || ELSEWHERE.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The keys among the arguments, of which the first is the name. Empty where they are not known.
pub(super) fn keys<'a>(arguments: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let name = arguments.first().copied().unwrap_or_default();
    let found = match find(name) {
        Keys::At(first, last, step) => Some(at(arguments, first, last, step)),
        Keys::Counted(at) => counted(arguments, at),
        Keys::Streams => streams(arguments),
        Keys::Sort => sort(arguments),
        Keys::Stores => Some(stores(arguments)),
        Keys::Unknown => None,
    };
    found.unwrap_or_default()
}

fn at<'a>(arguments: &[&'a [u8]], first: usize, last: isize, step: usize) -> Vec<&'a [u8]> {
    let end = match last {
        0.. => last.unsigned_abs() + 1,
        back => (arguments.len() + 1).saturating_sub(back.unsigned_abs()),
    };
    let end = end.min(arguments.len());
    arguments.get(first..end).unwrap_or_default().iter().step_by(step).copied().collect()
}

fn counted<'a>(arguments: &[&'a [u8]], at: usize) -> Option<Vec<&'a [u8]>> {
    let digits = std::str::from_utf8(arguments.get(at)?).ok()?;
    let sound = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let count: usize = digits.parse().ok().filter(|_| sound)?;
    let mut keys = arguments.get(at + 1..)?.get(..count)?.to_vec();
    // Before the count stands the destination, where there is one; the blocking ones have a time there.
    let name = arguments.first()?;
    if at == 2 && name.first().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'z')) {
        keys.push(arguments.get(1)?);
    }
    Some(keys)
}

fn streams<'a>(arguments: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let mut at = 1;
    loop {
        let word = arguments.get(at)?.to_ascii_lowercase();
        at += match word.as_slice() {
            b"block" | b"count" | b"claim" => 2,
            b"group" => 3,
            b"noack" => 1,
            b"streams" => break,
            _ => return None,
        };
    }
    let rest = arguments.get(at + 1..)?;
    if !rest.len().is_multiple_of(2) {
        return None;
    }
    Some(rest.get(..rest.len() / 2)?.to_vec())
}

/// With `BY` and `GET` it reads keys that a pattern makes.
fn sort<'a>(arguments: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let mut keys = vec![*arguments.get(1)?];
    let mut at = 2;
    while let Some(word) = arguments.get(at) {
        at += match word.to_ascii_lowercase().as_slice() {
            b"limit" => 3,
            b"asc" | b"desc" | b"alpha" => 1,
            b"store" => {
                keys.push(arguments.get(at + 1)?);
                2
            }
            _ => return None,
        };
    }
    Some(keys)
}

fn stores<'a>(arguments: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let stores = arguments
        .windows(2)
        .skip(1)
        .filter(|pair| pair[0].eq_ignore_ascii_case(b"store") || pair[0].eq_ignore_ascii_case(b"storedist"));
    arguments.iter().skip(1).take(1).copied().chain(stores.map(|pair| pair[1])).collect()
}

/// Looks a command up, without case.
fn find(name: &[u8]) -> Keys {
    let mut lower = [0; 24];
    let Some(lower) = lower.get_mut(..name.len()) else { return Keys::Unknown };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    match &*lower {
        b"bitop" => Keys::At(2, -1, 1),
        b"blpop" | b"brpop" | b"bzpopmax" | b"bzpopmin" => Keys::At(1, -2, 1),
        b"mset" | b"msetnx" => Keys::At(1, -1, 2),
        b"memory" | b"object" | b"xgroup" | b"xinfo" => Keys::At(2, 2, 1),
        b"lmpop" | b"sintercard" | b"zdiff" | b"zinter" | b"zintercard" | b"zmpop" | b"zunion" => {
            Keys::Counted(1)
        }
        b"blmpop" | b"bzmpop" | b"zdiffstore" | b"zinterstore" | b"zunionstore" => Keys::Counted(2),
        b"xread" | b"xreadgroup" => Keys::Streams,
        b"sort" | b"sort_ro" => Keys::Sort,
        b"georadius" | b"georadiusbymember" => Keys::Stores,
        lower if TWO.binary_search(&lower).is_ok() => Keys::At(1, 2, 1),
        lower if ALL.binary_search(&lower).is_ok() => Keys::At(1, -1, 1),
        lower if ONE.binary_search(&lower).is_ok() => Keys::At(1, 1, 1),
        _ => Keys::Unknown,
    }
}

/// Commands on a source and a destination.
const TWO: [&[u8]; 11] = [
    b"blmove",
    b"brpoplpush",
    b"copy",
    b"geosearchstore",
    b"lcs",
    b"lmove",
    b"rename",
    b"renamenx",
    b"rpoplpush",
    b"smove",
    b"zrangestore",
];

/// Commands all of whose arguments are keys.
const ALL: [&[u8]; 14] = [
    b"del",
    b"exists",
    b"mget",
    b"pfcount",
    b"pfmerge",
    b"sdiff",
    b"sdiffstore",
    b"sinter",
    b"sinterstore",
    b"sunion",
    b"sunionstore",
    b"touch",
    b"unlink",
    b"watch",
];

/// Commands on one key, the first argument.
const ONE: &[&[u8]] = &[
    b"append",
    b"bitcount",
    b"bitfield",
    b"bitfield_ro",
    b"bitpos",
    b"decr",
    b"decrby",
    b"dump",
    b"expire",
    b"expireat",
    b"expiretime",
    b"geoadd",
    b"geodist",
    b"geohash",
    b"geopos",
    b"georadius_ro",
    b"georadiusbymember_ro",
    b"geosearch",
    b"get",
    b"getbit",
    b"getdel",
    b"getex",
    b"getrange",
    b"getset",
    b"hdel",
    b"hexists",
    b"hexpire",
    b"hexpireat",
    b"hexpiretime",
    b"hget",
    b"hgetall",
    b"hgetdel",
    b"hgetex",
    b"hincrby",
    b"hincrbyfloat",
    b"hkeys",
    b"hlen",
    b"hmget",
    b"hmset",
    b"hpersist",
    b"hpexpire",
    b"hpexpireat",
    b"hpexpiretime",
    b"hpttl",
    b"hrandfield",
    b"hscan",
    b"hset",
    b"hsetex",
    b"hsetnx",
    b"hstrlen",
    b"httl",
    b"hvals",
    b"incr",
    b"incrby",
    b"incrbyfloat",
    b"lindex",
    b"linsert",
    b"llen",
    b"lpop",
    b"lpos",
    b"lpush",
    b"lpushx",
    b"lrange",
    b"lrem",
    b"lset",
    b"ltrim",
    b"move",
    b"persist",
    b"pexpire",
    b"pexpireat",
    b"pexpiretime",
    b"pfadd",
    b"psetex",
    b"pttl",
    b"restore",
    b"rpop",
    b"rpush",
    b"rpushx",
    b"sadd",
    b"scard",
    b"set",
    b"setbit",
    b"setex",
    b"setnx",
    b"setrange",
    b"sismember",
    b"smembers",
    b"smismember",
    b"spop",
    b"srandmember",
    b"srem",
    b"sscan",
    b"strlen",
    b"substr",
    b"ttl",
    b"type",
    b"xack",
    b"xadd",
    b"xautoclaim",
    b"xclaim",
    b"xdel",
    b"xlen",
    b"xpending",
    b"xrange",
    b"xrevrange",
    b"xsetid",
    b"xtrim",
    b"zadd",
    b"zcard",
    b"zcount",
    b"zincrby",
    b"zlexcount",
    b"zmscore",
    b"zpopmax",
    b"zpopmin",
    b"zrandmember",
    b"zrange",
    b"zrangebylex",
    b"zrangebyscore",
    b"zrank",
    b"zrem",
    b"zremrangebylex",
    b"zremrangebyrank",
    b"zremrangebyscore",
    b"zrevrange",
    b"zrevrangebylex",
    b"zrevrangebyscore",
    b"zrevrank",
    b"zscan",
    b"zscore",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &str, expected: &[&str]) {
        let arguments: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let expected: Vec<&[u8]> = expected.iter().map(|key| key.as_bytes()).collect();
        assert_eq!(keys(&arguments), expected, "{command}");
    }

    #[test]
    fn tables_are_sorted_so_that_every_command_in_them_is_found() {
        for table in [&TWO[..], &ALL[..], ONE] {
            assert!(table.is_sorted(), "{:?}", table.iter().map(|name| name.escape_ascii().to_string()));
            assert!(table.iter().all(|name| find(name) != Keys::Unknown));
        }
    }

    #[test]
    fn keys_are_found_where_each_command_has_them() {
        check("GET a", &["a"]);
        check("set a v EX 10", &["a"]);
        check("GET", &[]);
        check("DEL a b c", &["a", "b", "c"]);
        check("WATCH a b", &["a", "b"]);
        check("MSET a 1 b 2", &["a", "b"]);
        check("BLPOP a b 0", &["a", "b"]);
        check("BITOP AND d a b", &["d", "a", "b"]);
        check("RENAME a b", &["a", "b"]);
        check("OBJECT ENCODING a", &["a"]);
        check("ZUNION 2 a b WEIGHTS 1 2", &["a", "b"]);
        check("ZUNIONSTORE d 2 a b", &["a", "b", "d"]);
        check("BLMPOP 0 2 a b LEFT", &["a", "b"]);
        check("BZMPOP 0 1 a MIN", &["a"]);
        check("XREAD COUNT 2 STREAMS a b 0 0", &["a", "b"]);
        check("XREADGROUP GROUP streams c STREAMS a >", &["a"]);
        check("SORT a LIMIT 0 1 STORE d", &["a", "d"]);
        check("GEORADIUS a 1 2 3 m STORE d", &["a", "d"]);
    }

    #[test]
    fn what_reaches_further_than_its_keys_has_none() {
        for command in [
            "EVAL x 1 a",
            "FCALL f 1 a",
            "SORT a BY w_*",
            "SORT a GET x_*",
            "KEYS a*",
            "SCAN 0",
            "FLUSHALL",
            "ZUNION 9 a",
            "ZUNION x a",
            "XREAD STREAMS a",
            "JSON.SET a $ 1",
            "NEVERHEARD a",
            "MIGRATE h 1 a 0 1",
        ] {
            check(command, &[]);
        }
    }

    #[test]
    fn a_large_value_needs_not_be_held_to_judge_its_key() {
        assert_eq!((needed(b"SET"), needed(b"rename"), needed(b"unheard")), (2, 3, 1));
        assert_eq!((needed(b"MSET"), needed(b"CLIENT"), needed(b"EVAL")), (usize::MAX, usize::MAX, 1));
    }
}

//! What statements can do: their classes, told by a strict reading of the text.
//!
//! A text may hold several statements, and one statement may do several things (`WITH d AS (DELETE ...) SELECT ...`): all
//! count. In doubt more classes are told than there are, or [`Class::Other`], which no allow that names classes
//! matches. Names of functions are known for those of the server that do more than read; what others do is the database's to
//! restrict.

use super::classes::Classes;
use super::lexer::{Lexer, Token, Unreadable};
use bulkhead_facts::PostgresStatement as Class;

/// Reads a text with any number of statements. `plain`: in the encoding of the client, what looks like ASCII is ASCII.
pub(super) fn classes(text: &[u8], plain: bool) -> Classes {
    let classes = read(text, false, plain);
    if memchr::memchr(b'\\', text).is_none() {
        return classes;
    }
    // Whether a backslash escapes is a setting of the server: both readings count.
    classes.union(read(text, true, plain))
}

fn read(text: &[u8], escapes: bool, plain: bool) -> Classes {
    let mut classes = Classes::default();
    let mut lexer = Lexer::new(text, escapes, plain);
    let mut statement = Statement::default();
    loop {
        let token = match lexer.token() {
            Err(Unreadable) => {
                classes.add(Class::Other);
                return classes;
            }
            Ok(token) => token,
        };
        match token {
            Some(token) if token != Token::Symbol(b';') => statement.take(token),
            end => {
                classes = classes.union(std::mem::take(&mut statement).classes());
                if end.is_none() {
                    return classes;
                }
            }
        }
    }
}

/// One statement, as far as it was read.
#[derive(Debug, Default)]
struct Statement<'a> {
    /// Its first words, those of the inner statement where it begins with `EXPLAIN`, `PREPARE` or `DECLARE`.
    first: Option<&'a [u8]>,
    second: Option<&'a [u8]>,
    previous: Option<Token<'a>>,
    depth: usize,
    /// What was seen apart from the first words.
    seen: Classes,
    front: Front,
    /// A list of queries says in which order to search (`) SEARCH`, `) CYCLE`): the statement behind it follows a name.
    ordered: bool,
    /// What was read last ends a value, or is a part of one: of `(a).b`, not of `a.b`.
    in_value: bool,
    /// It names the view whose rows are the settings of the session.
    settings: bool,
}

/// What stands before the statement that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Front {
    #[default]
    None,
    /// Behind `EXPLAIN`, in its options.
    Explain { analyzes: bool },
    /// The statement behind `EXPLAIN`, which is carried out only if analyzed.
    Explained { analyzes: bool },
    /// Until `AS` (`PREPARE`).
    UntilAs,
    /// Until `FOR` (`DECLARE`).
    UntilFor,
}

impl<'a> Statement<'a> {
    fn take(&mut self, token: Token<'a>) {
        self.attribute(token);
        match token {
            Token::Symbol(b'(') => {
                self.call();
                self.depth += 1;
            }
            Token::Symbol(b')') => self.depth = self.depth.saturating_sub(1),
            Token::Word(word) => self.word(word),
            Token::Quoted(_) => {
                self.target(None);
                self.quoted_option();
            }
            Token::Value => self.target(None),
            Token::Symbol(_) => {}
        }
        self.previous = Some(token);
    }

    fn word(&mut self, word: &'a [u8]) {
        self.target(Some(word));
        self.modification(word);
        match self.front {
            Front::Explain { analyzes } => {
                // Options stand in parentheses, or as words before the statement.
                let analyze = is(word, "analyze") || is(word, "analyse");
                if analyze || self.depth > 0 || is(word, "verbose") {
                    self.front = Front::Explain { analyzes: analyzes || analyze };
                    return;
                }
                self.front = Front::Explained { analyzes };
                (self.first, self.second) = (Some(word), None);
            }
            Front::UntilAs if self.depth == 0 && is(word, "as") => self.inner(),
            Front::UntilFor if self.depth == 0 && is(word, "for") => self.inner(),
            Front::UntilAs | Front::UntilFor => {
                if self.second.is_none() {
                    self.second = Some(word);
                }
            }
            Front::None | Front::Explained { .. } => self.head(word),
        }
    }

    /// An option of `EXPLAIN` in quotes is one as well, however it is spelled.
    fn quoted_option(&mut self) {
        if let Front::Explain { .. } = self.front {
            self.front = Front::Explain { analyzes: true };
        }
    }

    /// The statement that counts begins behind this word.
    fn inner(&mut self) {
        (self.first, self.second, self.front) = (None, None, Front::None);
    }

    fn head(&mut self, word: &'a [u8]) {
        match (self.first, self.second) {
            (None, _) => {
                self.first = Some(word);
                self.front = match () {
                    () if is(word, "explain") => Front::Explain { analyzes: false },
                    () if is(word, "prepare") => Front::UntilAs,
                    () if is(word, "declare") => Front::UntilFor,
                    () => self.front,
                };
                match self.front {
                    Front::UntilAs => self.seen = self.seen.union(Classes::PREPARES),
                    Front::UntilFor => self.seen = self.seen.union(Classes::DECLARES),
                    _ => {}
                }
            }
            (Some(_), None) => self.second = Some(word),
            (Some(_), Some(_)) => {}
        }
    }

    /// A statement inside of this one that changes data, or one behind a list of such: `( DELETE`, `) UPDATE`.
    fn modification(&mut self, word: &[u8]) {
        let behind = |text: &str| matches!(self.previous, Some(Token::Word(word)) if is(word, text));
        let bracket = matches!(self.previous, Some(Token::Symbol(b'(' | b')')));
        self.ordered |= bracket && (is(word, "search") || is(word, "cycle"));
        if is(word, "grant") && self.begins("create") {
            // Within `CREATE SCHEMA`.
            self.seen.add(Class::Grant);
        }
        if is(word, "execute") && behind("as") && self.begins("create") {
            self.seen = self.seen.union(Classes::EXECUTES);
        }
        let class = match () {
            () if is(word, "insert") => Class::Insert,
            () if is(word, "update") => Class::Update,
            () if is(word, "delete") => Class::Delete,
            () if is(word, "merge") => Class::Merge,
            () if is(word, "into") && !behind("insert") && !behind("merge") && !self.begins("copy") => {
                // `SELECT ... INTO` makes a table.
                self.seen.add(Class::Define);
                return;
            }
            () => return,
        };
        let locks = behind("for");
        if bracket || behind("as") || behind("materialized") || behind("do") || (self.ordered && !locks) {
            self.seen.add(class);
        }
    }

    /// What `COPY` reads and writes: anything but the client is a file or a program of the server's.
    fn target(&mut self, word: Option<&[u8]>) {
        let direction =
            matches!(self.previous, Some(Token::Word(word)) if is(word, "from") || is(word, "to"));
        let client = word.is_some_and(|word| is(word, "stdin") || is(word, "stdout"));
        if self.begins("copy") && self.depth == 0 && direction && !client {
            self.seen.add(Class::Other);
        }
    }

    /// A function of one argument may be written behind it, as if it were a field: `('a'::text).f`, `($1).f`, `(a).b.f`.
    fn attribute(&mut self, token: Token<'a>) {
        let behind_dot = self.previous == Some(Token::Symbol(b'.'));
        match token {
            Token::Word(name) | Token::Quoted(name) => {
                self.in_value &= behind_dot;
                if self.in_value {
                    self.function(name);
                }
                self.settings |= name.eq_ignore_ascii_case(b"pg_settings");
            }
            Token::Value | Token::Symbol(b')' | b']') => self.in_value = true,
            Token::Symbol(b'.') => {}
            Token::Symbol(_) => self.in_value = false,
        }
    }

    fn call(&mut self) {
        match self.previous {
            Some(Token::Word(name) | Token::Quoted(name)) => self.function(name),
            Some(Token::Value | Token::Symbol(_)) | None => {}
        }
    }

    /// A function of the server that does more than read.
    fn function(&mut self, name: &[u8]) {
        let name = name.to_ascii_lowercase();
        if SETTING.contains(&name.as_slice()) {
            self.seen.add(Class::Session);
        } else if ACTING.iter().any(|front| name.starts_with(front)) {
            self.seen.add(Class::Call);
        }
    }

    fn begins(&self, text: &str) -> bool {
        self.first.is_some_and(|first| is(first, text))
    }

    fn classes(self) -> Classes {
        let mut classes = self.seen;
        if let Front::Explain { analyzes: false } | Front::Explained { analyzes: false } = self.front {
            return Classes::of(Class::Select);
        }
        let Some(first) = self.first else {
            // Symbols alone are no statement that we know.
            if self.previous.is_some() {
                classes.add(Class::Other);
            }
            return classes;
        };
        let second = self.second.unwrap_or_default();
        match class(&first.to_ascii_lowercase(), second) {
            // `WITH` alone says nothing; what stands behind it was seen, or is a query.
            None if is(first, "with") && !classes.is_none() => {}
            None if is(first, "with") => classes.add(Class::Select),
            None if is(first, "execute") => classes = classes.union(Classes::EXECUTES),
            None => classes.add(Class::Other),
            Some(class) => classes.add(class),
        }
        if is(first, "fetch") || is(first, "move") {
            classes = classes.union(Classes::FETCHES);
        }
        if self.settings && classes.contains(Class::Update) {
            // To update that view is what `SET` is.
            classes.add(Class::Session);
        }
        // What is analyzed, or what the cursor is for, was not found.
        if let Front::UntilFor | Front::Explain { .. } = self.front {
            classes.add(Class::Other);
        }
        classes
    }
}

/// The class of a statement that begins with these words.
fn class(first: &[u8], second: &[u8]) -> Option<Class> {
    Some(match first {
        b"select" | b"values" | b"table" | b"fetch" | b"move" => Class::Select,
        b"insert" => Class::Insert,
        b"update" => Class::Update,
        b"delete" => Class::Delete,
        b"merge" => Class::Merge,
        b"truncate" => Class::Truncate,
        b"copy" => Class::Copy,
        b"call" | b"do" => Class::Call,
        b"alter" if is(second, "system") => Class::Other,
        b"alter" if is(second, "default") => Class::Grant,
        b"create" | b"alter" | b"drop" | b"comment" | b"security" | b"reindex" | b"cluster" | b"vacuum"
        | b"analyze" | b"analyse" | b"refresh" | b"import" => Class::Define,
        b"grant" | b"revoke" | b"reassign" => Class::Grant,
        b"prepare" if is(second, "transaction") => Class::Transaction,
        b"set" if is(second, "transaction") || is(second, "constraints") => Class::Transaction,
        b"begin" | b"start" | b"commit" | b"end" | b"rollback" | b"abort" | b"savepoint" | b"release"
        | b"lock" => Class::Transaction,
        b"set" | b"show" | b"reset" | b"discard" | b"deallocate" | b"close" | b"listen" | b"unlisten"
        | b"notify" => Class::Session,
        _ => return None,
    })
}

/// Functions that change settings, or speak to other sessions.
const SETTING: [&[u8]; 2] = [b"set_config", b"pg_notify"];

/// How functions begin that write, reach files, other servers or sessions, or carry out a text.
const ACTING: [&[u8]; 40] = [
    b"connectby",
    b"crosstab",
    b"cursor_to_xml",
    b"database_to_xml",
    b"dblink",
    b"lo_",
    b"loread",
    b"lowrite",
    b"pg_backup",
    b"pg_cancel_backend",
    b"pg_clear_",
    b"pg_copy_",
    b"pg_create_",
    b"pg_drop_",
    b"pg_export",
    b"pg_file_",
    b"pg_import",
    b"pg_log_",
    b"pg_logical_",
    b"pg_ls_",
    b"pg_promote",
    b"pg_read_",
    b"pg_reload_conf",
    b"pg_replication_",
    b"pg_restore_",
    b"pg_rotate_logfile",
    b"pg_set_",
    b"pg_start_",
    b"pg_stat_file",
    b"pg_stat_reset",
    b"pg_stop_",
    b"pg_switch_",
    b"pg_sync_",
    b"pg_terminate_backend",
    b"pg_wal_replay_",
    b"query_to_xml",
    b"setval",
    b"ts_rewrite",
    b"ts_stat",
    b"xpath_table",
];

fn is(word: &[u8], text: &str) -> bool {
    word.eq_ignore_ascii_case(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let names = classes(text.as_bytes(), false).resolved(Classes::default(), Classes::default()).to_vec();
        let names: Vec<&str> = names.into_iter().map(Class::as_str).collect();
        assert_eq!(names.join(" "), expected, "{text}");
    }

    #[test]
    fn statements_are_told_by_their_first_words() {
        for (text, expected) in [
            ("", ""),
            (" ; ;; -- nothing\n", ""),
            ("select 1", "select"),
            ("(SELECT 1) UNION (SELECT 2)", "select"),
            ("((values (1)))", "select"),
            ("Insert into a values (1)", "insert"),
            ("INSERT INTO a SELECT * FROM b", "insert"),
            ("INSERT INTO a VALUES (1) ON CONFLICT DO UPDATE SET b = 1", "insert update"),
            ("UPDATE a SET b = 1", "update"),
            ("delete from a", "delete"),
            ("MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE", "merge"),
            ("TRUNCATE a", "truncate"),
            ("CALL p()", "call"),
            ("DO $$ BEGIN DELETE FROM a; END $$", "call"),
            ("CREATE TABLE a (b int)", "define"),
            ("ALTER SYSTEM SET a = 1", "other"),
            ("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO a", "grant"),
            ("REVOKE ALL ON a FROM b", "grant"),
            ("CREATE SCHEMA a CREATE TABLE b (c int) GRANT SELECT ON b TO d", "define grant"),
            ("BEGIN; COMMIT", "transaction"),
            ("SET TRANSACTION READ ONLY", "transaction"),
            ("PREPARE TRANSACTION 'x'", "transaction"),
            ("SET ROLE a", "session"),
            ("LISTEN a", "session"),
            ("SHOW a; RESET a", "session"),
            ("CHECKPOINT", "other"),
            ("START_REPLICATION SLOT a LOGICAL 0/0", "other"),
            ("hello", "other"),
            ("1", "other"),
            ("EXECUTE a", "other"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn several_statements_are_all_told() {
        check("select 1; drop table a", "select define");
        check("select ';drop table a'", "select");
        check("select 1;--\ndelete from a", "select delete");
        check("select 1 /* ; /* nested */ ; */; delete from a", "select delete");
        check("select $$;$$, $a$ $$; $a$; delete from a", "select delete");
        check("select \"a;\"\"b\"; delete from a", "select delete");
        check("select 1 -- ';\n; delete from a --'", "select delete");
        check(
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC DELETE FROM a; SELECT 1; END",
            "select define transaction",
        );
    }

    #[test]
    fn statements_inside_of_others_are_told() {
        check("WITH a AS (SELECT 1) SELECT * FROM a", "select");
        check("WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a", "delete");
        check("with a as materialized (select 1) update b set c = 1", "update");
        check("WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", "insert");
        check(
            "WITH a(x) AS (UPDATE b SET c = 1 RETURNING *), d AS (INSERT INTO e VALUES (1)) SELECT 1",
            "insert update",
        );
        check("SELECT * INTO a FROM b", "select define");
        check("SELECT 1 FROM a FOR UPDATE", "select");
        check("EXPLAIN DELETE FROM a", "select");
        check("EXPLAIN (COSTS off, VERBOSE) DELETE FROM a", "select");
        check("EXPLAIN ANALYZE DELETE FROM a", "delete");
        check("EXPLAIN (VERBOSE, ANALYZE) UPDATE a SET b = 1", "update");
        check("explain analyze verbose select 1", "select");
        check("PREPARE a AS DELETE FROM b", "delete");
        check("PREPARE a (int, text) AS SELECT $1", "select");
        check("DECLARE a CURSOR WITH HOLD FOR SELECT 1", "select");
        check("DECLARE a CURSOR FOR WITH d AS (DELETE FROM b RETURNING *) SELECT 1", "delete");
        check("DECLARE a", "other");
    }

    #[test]
    fn a_statement_behind_an_order_of_search_is_told() {
        let list = "WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT 2 FROM a)";
        check(&format!("{list} SEARCH DEPTH FIRST BY b SET c DELETE FROM d"), "delete");
        check(&format!("{list} SEARCH BREADTH FIRST BY b SET \"c\" UPDATE d SET e = 1"), "update");
        check(&format!("{list} CYCLE b SET c USING key UPDATE d SET e = 1"), "update");
        check(&format!("{list} CYCLE b SET c TO 1 DEFAULT 0 USING p MERGE INTO d USING a ON true"), "merge");
        check(
            &format!("WITH x AS ({list} CYCLE b SET c USING p DELETE FROM d RETURNING 1) SELECT 1"),
            "delete",
        );
        check(&format!("{list} CYCLE b SET c USING p SELECT * FROM a FOR UPDATE"), "select");
    }

    #[test]
    fn options_in_quotes_are_options() {
        check("EXPLAIN (\"analyze\") DELETE FROM a", "delete");
        check("EXPLAIN (COSTS off, \"analyze\" true) UPDATE a SET b = 1", "update");
        check("EXPLAIN DELETE FROM \"analyze\"", "select");
    }

    #[test]
    fn copies_other_than_with_the_client_are_told_apart() {
        check("COPY a FROM STDIN", "copy");
        check("COPY a (b, c) TO STDOUT WITH (FORMAT csv)", "copy");
        check("COPY (SELECT * FROM a) TO STDOUT", "copy");
        check("COPY (DELETE FROM a RETURNING *) TO STDOUT", "delete copy");
        check("COPY a FROM PROGRAM 'id'", "copy other");
        check("COPY a TO '/tmp/x'", "copy other");
        check("COPY a FROM E'/etc/passwd'", "copy other");
        check("COPY a FROM $$/etc/passwd$$", "copy other");
    }

    #[test]
    fn functions_of_the_server_that_act_are_told() {
        check("select pg_terminate_backend(1)", "select call");
        check("select \"pg_read_file\"('/etc/passwd')", "select call");
        check("select pg_catalog.lo_export(1, '/tmp/a')", "select call");
        check("select pg_wal_replay_pause()", "select call");
        check("select * from pg_copy_logical_replication_slot('a', 'b')", "select call");
        check("select pg_sync_replication_slots(), pg_log_standby_snapshot()", "select call");
        check("select lower(a), nextval('s') from b", "select");
        check("select set_config('role', 'a', false)", "select session");
        check("select query_to_xml('select 1', true, true, '')", "select call");
    }

    #[test]
    fn functions_that_are_written_as_fields_are_told() {
        for text in [
            "select ('/etc/passwd'::text).pg_read_file",
            "select ('/etc/passwd'::text) . /* so */ \"PG_Read_File\"",
            "select (s).x.pg_read_file from (select '/etc/passwd'::text x) s",
            "select (array['/etc/passwd'])[1].pg_read_file",
            "select a[1].pg_read_file from b",
            "select $1.pg_read_file",
            "select (select a from b).lo_unlink",
        ] {
            check(text, "select call");
        }
        check("select lineorder.lo_orderdate, (a).b, 1.5 from lineorder", "select");
        check("select f(a) lo_date, (a) lo_date, s.t.lo_date from b", "select");
    }

    #[test]
    fn settings_that_are_updated_as_rows_are_set() {
        check("update pg_settings set setting = 'a' where name = 'role'", "update session");
        check("update pg_catalog.\"pg_settings\" set setting = 'a'", "update session");
        check("with a as (update pg_settings set setting = 'a' returning 1) select 1", "update session");
        check("select * from pg_settings; update a set b = 1", "select update");
    }

    #[test]
    fn what_reads_in_two_ways_counts_in_both() {
        check(r"select 'a\'; delete from a; --'", "select delete");
        check(r"select E'a\'; delete from a; --'", "select");
        check(r"select E'a' 'b\'; delete from a; --'", "select delete");
        check("select U&\"d\\0061t\"(1)", "other");
        check("select 'open", "other");
        check("select /* open", "other");
        check("select $a$ open $b$", "other");
        check("select E'a' -- b\n \t'\\'' ; delete from a; --'", "select delete");
        // Each plain reading of this one is wrong: what goes on escapes as what it goes on with.
        check("select '\\' /*' , $q$ */ , E'a'\n'\\'' ; delete from a; --' -- $q$", "select delete");
        let doubtful = b"select E'\x95\\'; delete from a; --'";
        assert_eq!(classes(doubtful, false).to_vec(), [Class::Other]);
        let doubtful = b"select '\x95\\'; delete from a; --'";
        assert!(classes(doubtful, false).to_vec().contains(&Class::Other));
    }

    /// Shift JIS, where these are characters of names: what a server does with them was seen on one.
    #[test]
    fn what_may_be_a_character_of_two_bytes_ends_no_word() {
        for doubtful in [
            b"select $\x95[$ ' $\x95[$; delete from t; --'".as_slice(),
            b"select 1 as \x95[$x$; delete from t; select 1 as \x95[$x$",
            b"select 1 as a\x95|$x$; delete from t; select 1 as a\x95|$x$",
            b"select \x95@E '\\'; delete from t; --'",
        ] {
            let told = classes(doubtful, false);
            assert!(told.to_vec().contains(&Class::Other), "{}", doubtful.escape_ascii());
        }
        for text in
            ["select größé[1] from a", "select имя||' '||фамилия from a", "select E'é\\'; delete from a; --'"]
        {
            assert_eq!(classes(text.as_bytes(), true).to_vec(), [Class::Select], "{text}");
        }
        for text in ["select 'é[', \"é|\", é.a, é::text /* é| */ from é", "select $é$[$é$"] {
            assert_eq!(classes(text.as_bytes(), false).to_vec(), [Class::Select], "{text}");
        }
    }

    #[test]
    fn what_has_a_name_can_be_executed_or_gone_on_with() {
        let nothing = Classes::default();
        let prepared = classes(b"PREPARE a AS DELETE FROM b", false);
        assert!(prepared.does(Classes::PREPARES) && !classes(b"select 1", false).does(Classes::PREPARES));
        for text in ["EXECUTE a", "EXPLAIN ANALYZE EXECUTE a"] {
            assert_eq!(classes(text.as_bytes(), false).resolved(prepared, nothing).to_vec(), [Class::Delete]);
        }
        let made = classes(b"CREATE TABLE c AS EXECUTE a", false).resolved(prepared, nothing);
        assert_eq!(made.to_vec(), [Class::Delete, Class::Define]);
        let cursor = classes(b"DECLARE c CURSOR FOR SELECT pg_read_file('a')", false);
        assert!(cursor.does(Classes::DECLARES) && !cursor.does(Classes::PREPARES));
        for text in ["FETCH ALL FROM c", "move c"] {
            let fetched = classes(text.as_bytes(), false).resolved(nothing, cursor);
            assert_eq!(fetched.to_vec(), [Class::Select, Class::Call]);
        }
        // What is executed goes on with a cursor.
        let executed = classes(b"EXECUTE a", false).resolved(classes(b"FETCH c", false), cursor);
        assert_eq!(executed.to_vec(), [Class::Select, Class::Call]);
    }
}

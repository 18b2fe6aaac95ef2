//! The query of a source: one statement that reads, with named placeholders that are bound, never
//! pasted.
//!
//! `:after` stands for the watermark that was read so far, `:limit` for the most rows to return.
//! Text in quotes, names in quotes and comments are left alone, and so is `::` of PostgreSQL.

use crate::shell::settings::units::Wrong;

/// A query in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Placeholder(Name),
}

/// A placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    After,
    Limit,
}

impl Query {
    pub fn parse(text: &str) -> Result<Query, Wrong> {
        let text = text.trim().trim_end_matches(';').trim_end();
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut code = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if rest.starts_with("/*!") || rest.starts_with("/*M!") {
                return Err(runs_comments());
            }
            let skipped = skip(rest).ok_or_else(unfinished)?;
            if 0 < skipped {
                plain.push_str(&rest[..skipped]);
                code.push(' ');
                rest = &rest[skipped..];
                continue;
            }
            let is_cast = rest.starts_with("::");
            if c == ':' && !is_cast {
                let word: String = rest[1..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let name = match word.as_str() {
                    "after" => Some(Name::After),
                    "limit" => Some(Name::Limit),
                    "" => None,
                    _ => return Err(unknown(&word)),
                };
                if let Some(name) = name {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Placeholder(name));
                    code.push('?');
                    rest = &rest[1 + word.len()..];
                    continue;
                }
            }
            let length = if is_cast { 2 } else { c.len_utf8() };
            plain.push_str(&rest[..length]);
            code.push_str(&rest[..length]);
            rest = &rest[length..];
        }
        pieces.push(Piece::Text(plain));
        reads_only(&code)?;
        Ok(Query { pieces })
    }

    pub fn has_after(&self) -> bool {
        self.names().any(|name| name == Name::After)
    }

    pub fn has_limit(&self) -> bool {
        self.names().any(|name| name == Name::Limit)
    }

    /// The placeholders in their order, each as often as it stands there.
    pub fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Placeholder(name) => Some(*name),
            Piece::Text(_) => None,
        })
    }

    /// The statement with `?` for each placeholder.
    pub fn with_marks(&self) -> String {
        self.render(|_| "?".to_owned())
    }

    /// The statement with a number after a prefix for each placeholder: 1 is the first name that
    /// stands in the query, and a name keeps its number.
    pub fn with_numbers(&self, prefix: &str) -> String {
        let numbered = self.numbered();
        self.render(|name| {
            let place = numbered.iter().position(|known| *known == name);
            format!("{prefix}{}", place.expect("each name has a number") + 1)
        })
    }

    /// The names by their numbers.
    pub fn numbered(&self) -> Vec<Name> {
        let mut numbered = Vec::new();
        for name in self.names() {
            if !numbered.contains(&name) {
                numbered.push(name);
            }
        }
        numbered
    }

    fn render(&self, placeholder: impl Fn(Name) -> String) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Placeholder(name) => placeholder(*name),
        };
        self.pieces.iter().map(piece).collect()
    }
}

/// How many bytes at the beginning are a quoted text, a quoted name or a comment; none when it does
/// not end.
fn skip(rest: &str) -> Option<usize> {
    let until = |from: usize, end: &str| {
        let at = rest.get(from..)?.find(end)?;
        Some(from + at + end.len())
    };
    if rest.starts_with("--") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return until(2, "*/");
    }
    match rest.as_bytes()[0] {
        b'\'' => until(1, "'"),
        b'"' => until(1, "\""),
        b'`' => until(1, "`"),
        b'[' => until(1, "]"),
        _ => Some(0),
    }
}

/// Words that no reading statement has outside of quotes: they write, run something, or lock rows.
/// An account without rights is what keeps a database safe; this keeps a slip from being tried.
const WRITING: [&str; 14] = [
    "insert", "update", "delete", "merge", "into", "exec", "execute", "create", "alter", "drop",
    "truncate", "grant", "revoke", "waitfor",
];

/// One statement that begins with SELECT or WITH and has no word of writing.
fn reads_only(code: &str) -> Result<(), Wrong> {
    let code = code.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || "_$#@".contains(c);
    let mut words = code
        .split(|c: char| !is_part(c))
        .filter(|word| !word.is_empty());
    let is_reading = matches!(words.next(), Some("select" | "with"));
    if let Some(word) = words.find(|word| WRITING.contains(word)) {
        return Err(writes(word));
    }
    match is_reading && !code.contains(';') {
        true => Ok(()),
        false => Err(Wrong::new(
            "chỉ được là một câu lệnh đọc dữ liệu, bắt đầu bằng SELECT hoặc WITH",
            "must be one statement that reads, beginning with SELECT or WITH",
            "Bỏ dấu chấm phẩy và các câu lệnh khác.",
            "Take semicolons and other statements out.",
        )),
    }
}

fn writes(word: &str) -> Wrong {
    let word = word.to_uppercase();
    Wrong {
        vi: format!("chỉ được đọc dữ liệu, không được có từ {word}"),
        en: format!("must only read, without the word {word}"),
        hint_vi: "Bỏ phần ghi, khóa hoặc chạy lệnh; nếu đó là tên cột thì đặt trong dấu nháy của cơ sở dữ liệu.".to_owned(),
        hint_en: "Take out what writes, locks or runs something; a column of that name goes in the database's quotes.".to_owned(),
    }
}

fn runs_comments() -> Wrong {
    Wrong::new(
        "có chú thích mà MySQL chạy như câu lệnh (/*! … */)",
        "has a comment that MySQL runs as a statement (/*! … */)",
        "Bỏ chú thích đó.",
        "Take that comment out.",
    )
}

fn unknown(word: &str) -> Wrong {
    Wrong {
        vi: format!("“:{word}” không phải là chỗ điền giá trị"),
        en: format!("\":{word}\" is not a placeholder"),
        hint_vi: "Chỉ dùng :after và :limit.".to_owned(),
        hint_en: "Use :after and :limit only.".to_owned(),
    }
}

fn unfinished() -> Wrong {
    Wrong::new(
        "có dấu nháy hoặc chú thích chưa đóng",
        "has a quote or a comment that does not end",
        "Kiểm tra các dấu nháy.",
        "Check the quotes.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn placeholders_are_bound_by_name() {
        let query = Query::parse(
            "SELECT id::text, ':after', \"a:limit\" -- :after\n FROM t /* :limit */ WHERE id > :after AND :after IS NOT NULL ORDER BY id LIMIT :limit;",
        )
        .expect("a query");
        assert_eq!(
            query.with_numbers("$"),
            "SELECT id::text, ':after', \"a:limit\" -- :after\n FROM t /* :limit */ WHERE id > $1 AND $1 IS NOT NULL ORDER BY id LIMIT $2"
        );
        assert_eq!(query.with_marks().matches('?').count(), 3);
        let names: Vec<Name> = query.names().collect();
        assert_eq!(names, [Name::After, Name::After, Name::Limit]);
        assert_eq!(query.numbered(), [Name::After, Name::Limit]);
    }

    #[test]
    fn the_order_of_numbers_is_the_order_of_names() {
        let query =
            Query::parse("SELECT TOP (:limit) [a:after] FROM t WHERE v > :after ORDER BY v")
                .expect("a query");
        assert_eq!(
            query.with_numbers("@p"),
            "SELECT TOP (@p1) [a:after] FROM t WHERE v > @p2 ORDER BY v"
        );
    }

    #[test]
    fn what_writes_or_is_more_than_one_statement_is_refused() {
        for bad in [
            "UPDATE t SET a = 1",
            "DELETE FROM t WHERE id > :after",
            "SELECT 1; DROP TABLE t",
            "",
            "SELECT :truoc",
            "SELECT 'chưa đóng",
            "SELECT /* chưa đóng",
            "EXEC xp_cmdshell 'dir'",
            "WITH a AS (SELECT 1 AS x) DELETE FROM t",
            "WITH a AS (INSERT INTO t VALUES (1) RETURNING x) SELECT x FROM a",
            "SELECT * INTO moi FROM t",
            "SELECT * FROM t FOR UPDATE",
            "SELECT * FROM t /*! INTO OUTFILE 'a' */",
            "SELECT * FROM t /*M!100100 INTO OUTFILE 'a' */",
            "SELECT 1 EXEC sp_who",
        ] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        assert!(Query::parse("with a as (select 1) select * from a").is_ok());
        assert!(Query::parse("SELECT ';' FROM t").is_ok());
        for good in [
            "SELECT update_date, [update], \"delete\", 'drop', into_ FROM inserts -- delete",
            "SELECT id, @update FROM t",
        ] {
            assert!(Query::parse(good).is_ok(), "{good}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_query_or_a_fault(text in ".{0,200}") {
            if let Ok(query) = Query::parse(&format!("SELECT {text}")) {
                prop_assert!(query.with_marks().starts_with("SELECT"));
            }
        }
    }
}

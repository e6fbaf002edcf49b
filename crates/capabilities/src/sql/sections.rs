//! Migration files that contain both forward and backward statements, with comments that mark where each direction
//! starts.
//!
//! Only the forward direction is applied. Applying all statements in the order of the file would silently undo the
//! migration. We considered refusing such files, but several programs write migrations only in this form, and the
//! meaning is clear.

use std::borrow::Cow;

/// The comments that mark the beginning of the forward statements and of the backward statements, in lower case. There
/// is one pair for each program that writes such files: goose, dbmate, sql-migrate, node-pg-migrate, Rambler.
const MARKS: [(&str, &str); 5] = [
    ("+goose up", "+goose down"),
    ("migrate:up", "migrate:down"),
    ("+migrate up", "+migrate down"),
    ("up migration", "down migration"),
    ("rambler up", "rambler down"),
];

/// Returns the text of a migration without the statements that undo it, which are in sections after a *down* mark.
/// Replaces the lines of these sections with empty lines, so that line numbers stay the same. Recognizes *down* marks
/// only in a file that also has the *up* mark of the same program; otherwise they are ordinary comments.
pub(crate) fn forward(text: &str) -> Cow<'_, str> {
    let mut marks = text.lines().filter_map(|line| MARKS.into_iter().find(|(up, _)| is_mark(line, up)));
    let Some((up, down)) = marks.next() else { return text.into() };
    if !text.lines().any(|line| is_mark(line, down)) {
        return text.into();
    }
    let mut kept = String::with_capacity(text.len());
    let mut is_forward = true;
    for line in text.split_inclusive('\n') {
        is_forward = (is_forward || is_mark(line, up)) && !is_mark(line, down);
        kept.push_str(if is_forward { line } else { &line[line.trim_end_matches('\n').len()..] });
    }
    kept.into()
}

/// Returns whether the line is a comment that starts with `mark`. Options may follow the mark.
fn is_mark(line: &str, mark: &str) -> bool {
    let Some(comment) = line.trim().strip_prefix("--") else { return false };
    let comment = comment.trim().to_ascii_lowercase();
    comment.strip_prefix(mark).is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forward_statements_are_kept() {
        for (text, forward_only) in [
            ("-- +goose Up\nA;\n-- +goose Down\nB;\n", "-- +goose Up\nA;\n\n\n"),
            ("-- migrate:up transaction:false\nA;\n\n-- migrate:down\nB;", "-- migrate:up transaction:false\nA;\n\n\n"),
            ("-- +migrate Down\nB;\n-- +migrate Up\nA;\n", "\n\n-- +migrate Up\nA;\n"),
            (
                "--Up Migration\nA;\n  --  DOWN MIGRATION\nB;\n--Up Migration\nC;\n",
                "--Up Migration\nA;\n\n\n--Up Migration\nC;\n",
            ),
            ("-- rambler up\nA;\n-- rambler down\nB;\n", "-- rambler up\nA;\n\n\n"),
        ] {
            assert_eq!(forward(text), forward_only);
        }
    }

    #[test]
    fn a_file_without_both_marks_is_unchanged() {
        for text in [
            "A;\n-- down migration is done by hand\nB;\n",
            "-- +goose Up\nA;\n",
            "-- migrate:up\nA;\n-- +goose Down\nB;\n",
            "-- migrate:upward\nA;\n-- migrate:down\nB;\n",
            "",
        ] {
            assert_eq!(forward(text), text);
        }
    }
}

//! A short description of a process. Little is kept of one that has ended, and its request may have been large.

use std::time::SystemTime;

use super::messages::ProcessConfig;

/// Of the words of a command, `bytes`; the rest is left out.
const WORDS: usize = 1024;

pub struct Brief {
    pub cmd: String,
    pub args: Vec<String>,
    pub started_at: SystemTime,
}

impl Brief {
    pub fn new(config: &ProcessConfig) -> Self {
        let mut room = WORDS;
        let cmd = cut(&config.cmd, &mut room);
        let mut args = Vec::new();
        for arg in &config.args {
            // An empty word takes room, too, since their number is as large as one likes.
            if room == 0 {
                break;
            }
            args.push(cut(arg, &mut room));
            room = room.saturating_sub(1);
        }
        Self { cmd, args, started_at: SystemTime::now() }
    }
}

fn cut(word: &str, room: &mut usize) -> String {
    let mut length = word.len().min(*room);
    while !word.is_char_boundary(length) {
        length -= 1;
    }
    *room -= length;
    if length < word.len() {
        *room = 0;
    }
    word[..length].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(cmd: &str, args: Vec<String>) -> Brief {
        Brief::new(&ProcessConfig { cmd: cmd.into(), args, ..ProcessConfig::default() })
    }

    #[test]
    fn a_short_command_is_whole() {
        let brief = brief("sh", vec![String::new(), "-c".into()]);
        assert_eq!((brief.cmd, brief.args), ("sh".into(), vec![String::new(), "-c".into()]));
    }

    #[test]
    fn a_long_one_is_cut_between_characters() {
        let long = brief("ab", vec!["ä".repeat(WORDS), "never".into()]);
        assert_eq!(long.args, ["ä".repeat((WORDS - 2) / 2)]);
        let many = brief("ab", vec![String::new(); 1_000_000]);
        assert_eq!(many.args.len(), WORDS - 2);
        let name = brief(&"x".repeat(WORDS * 2), vec!["never".into()]);
        assert_eq!((name.cmd.len(), name.args.len()), (WORDS, 0));
    }
}

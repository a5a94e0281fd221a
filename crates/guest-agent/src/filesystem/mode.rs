//! Permissions in the form that Go prints, which E2B's clients know: `drwxr-xr-x`, `Lrwxrwxrwx`.

/// `mode` is a whole `st_mode`.
pub fn permissions(mode: u32) -> String {
    let mut text = String::with_capacity(12);
    text.push_str(match mode & libc::S_IFMT {
        libc::S_IFDIR => "d",
        libc::S_IFLNK => "L",
        libc::S_IFBLK => "D",
        libc::S_IFCHR => "D",
        libc::S_IFIFO => "p",
        libc::S_IFSOCK => "S",
        _ => "",
    });
    let special = [
        (mode & libc::S_ISUID != 0, 'u'),
        (mode & libc::S_ISGID != 0, 'g'),
        (mode & libc::S_IFMT == libc::S_IFCHR, 'c'),
        (mode & libc::S_ISVTX != 0, 't'),
    ];
    text.extend(special.iter().filter(|(set, _)| *set).map(|(_, letter)| letter));
    if text.is_empty() {
        text.push('-');
    }
    for (index, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if mode & (0o400 >> index) != 0 { letter } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_go_prints() {
        assert_eq!(permissions(libc::S_IFREG | 0o644), "-rw-r--r--");
        assert_eq!(permissions(libc::S_IFDIR | 0o1777), "dtrwxrwxrwx");
        assert_eq!(permissions(libc::S_IFLNK | 0o777), "Lrwxrwxrwx");
        assert_eq!(permissions(libc::S_IFREG | 0o4755), "urwxr-xr-x");
        assert_eq!(permissions(libc::S_IFCHR | 0o666), "Dcrw-rw-rw-");
    }
}

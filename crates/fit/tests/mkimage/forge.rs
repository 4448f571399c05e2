//! Alters FITs as somebody does who has no key: token by token, so that all that is not touched stays as it was.

/// A token of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Begin(String),
    Property { name: String, value: Vec<u8>, padding: Vec<u8> },
    End,
    Nop,
}

impl Token {
    /// Makes a property.
    pub(crate) fn property(name: &str, value: impl Into<Vec<u8>>) -> Self {
        Self::Property { name: name.into(), value: value.into(), padding: Vec::new() }
    }
}

/// A tree taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Forge {
    pub(crate) tokens: Vec<Token>,
    strings: Vec<u8>,
    header: Vec<u8>,
    room: usize,
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn text(bytes: &[u8], at: usize) -> String {
    let length = bytes[at..].iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(bytes[at..at + length].to_vec()).unwrap()
}

impl Forge {
    /// Takes a tree apart, and looks that it goes together again to the same bytes.
    pub(crate) fn of(fit: &[u8]) -> Self {
        let (structure, strings) = (word(fit, 8), word(fit, 12));
        let strings = &fit[strings..strings + word(fit, 32)];
        let mut tokens = Vec::new();
        let mut at = structure;
        loop {
            at += 4;
            match word(fit, at - 4) {
                1 => {
                    let name = text(fit, at);
                    at = (at + name.len() + 1).next_multiple_of(4);
                    tokens.push(Token::Begin(name));
                }
                2 => tokens.push(Token::End),
                3 => {
                    let (size, name) = (word(fit, at), word(fit, at + 4));
                    let end = at + 8 + size;
                    let value = fit[at + 8..end].to_vec();
                    at = end.next_multiple_of(4);
                    // What `mkimage` left there when it put the value in.
                    let padding = fit[end..at].to_vec();
                    tokens.push(Token::Property { name: text(strings, name), value, padding });
                }
                4 => tokens.push(Token::Nop),
                9 => break,
                other => panic!("token {other}"),
            }
        }
        let forge = Self { tokens, strings: strings.to_vec(), header: fit[..56].to_vec(), room: 0 };
        let room = fit.len() - forge.build().len();
        let forge = Self { room, ..forge };
        assert!(forge.build() == fit, "a tree does not go together again");
        forge
    }

    /// Puts the tree together.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut fit = self.header.clone();
        let mut strings = self.strings.clone();
        let put = |fit: &mut Vec<u8>, value: usize| fit.extend((value as u32).to_be_bytes());
        let pad = |fit: &mut Vec<u8>| fit.resize(fit.len().next_multiple_of(4), 0);
        for token in &self.tokens {
            match token {
                Token::Begin(name) => {
                    put(&mut fit, 1);
                    fit.extend(name.as_bytes());
                    fit.push(0);
                    pad(&mut fit);
                }
                Token::Property { name, value, padding } => {
                    let name = [name.as_bytes(), b"\0"].concat();
                    // As libfdt does it: the first place where the name stands, be it the end of another.
                    let there = strings.windows(name.len()).position(|window| window == name);
                    let offset = there.unwrap_or_else(|| {
                        strings.extend(&name);
                        strings.len() - name.len()
                    });
                    put(&mut fit, 3);
                    put(&mut fit, value.len());
                    put(&mut fit, offset);
                    fit.extend(value);
                    if fit.len().next_multiple_of(4) == fit.len() + padding.len() {
                        fit.extend(padding);
                    }
                    pad(&mut fit);
                }
                Token::End => put(&mut fit, 2),
                Token::Nop => put(&mut fit, 4),
            }
        }
        put(&mut fit, 9);
        let structure_end = fit.len();
        fit.extend(&strings);
        fit.resize(fit.len() + self.room, 0);
        for (at, value) in [
            (4, fit.len()),
            (12, structure_end),
            (32, strings.len()),
            (36, structure_end - self.header.len()),
        ] {
            set_word(&mut fit, at, value);
        }
        fit
    }

    /// Returns where the tokens of a node begin and end.
    #[track_caller]
    pub(crate) fn node(&self, path: &str) -> std::ops::Range<usize> {
        let mut open: Vec<(String, usize)> = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            match token {
                Token::Begin(name) => open.push((name.clone(), index)),
                Token::End => {
                    let found = open.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("/");
                    let (_, start) = open.pop().unwrap();
                    if found == path {
                        return start..index + 1;
                    }
                }
                _ => {}
            }
        }
        panic!("there is no {path}");
    }

    /// Returns the value of a property.
    #[track_caller]
    pub(crate) fn value(&mut self, path: &str, wanted: &str) -> &mut Vec<u8> {
        let node = self.node(path);
        let mut depth = 0;
        for token in &mut self.tokens[node] {
            match token {
                Token::Begin(_) => depth += 1,
                Token::End => depth -= 1,
                Token::Property { name, value, .. } if depth == 1 && name == wanted => return value,
                _ => {}
            }
        }
        panic!("{path} has no {wanted}");
    }

    /// Sets a property that is there.
    #[track_caller]
    pub(crate) fn set(mut self, path: &str, name: &str, value: impl Into<Vec<u8>>) -> Self {
        *self.value(path, name) = value.into();
        self
    }

    /// Puts a property into a node, before its others.
    #[track_caller]
    pub(crate) fn add(mut self, path: &str, name: &str, value: impl Into<Vec<u8>>) -> Self {
        let at = self.node(path).start + 1;
        self.tokens.insert(at, Token::property(name, value));
        self
    }

    /// Takes a property out.
    #[track_caller]
    pub(crate) fn remove(mut self, path: &str, wanted: &str) -> Self {
        self.value(path, wanted);
        let node = self.node(path);
        let at = self.tokens[node.clone()]
            .iter()
            .position(|token| matches!(token, Token::Property { name, .. } if name == wanted));
        self.tokens.remove(node.start + at.unwrap());
        self
    }

    /// Takes a node out.
    #[track_caller]
    pub(crate) fn remove_node(mut self, path: &str) -> Self {
        let node = self.node(path);
        self.tokens.drain(node);
        self
    }

    /// Puts a copy of a node under another name at the end of a node.
    #[track_caller]
    pub(crate) fn copy(mut self, from: &str, name: &str, into: &str) -> Self {
        let mut copy = self.tokens[self.node(from)].to_vec();
        copy[0] = Token::Begin(name.into());
        let at = self.node(into).end - 1;
        self.tokens.splice(at..at, copy);
        self
    }

    /// Puts a copy of a node under another name before another node.
    #[track_caller]
    pub(crate) fn copy_before(mut self, from: &str, name: &str, before: &str) -> Self {
        let mut copy = self.tokens[self.node(from)].to_vec();
        copy[0] = Token::Begin(name.into());
        let at = self.node(before).start;
        self.tokens.splice(at..at, copy);
        self
    }
}

/// Sets a number in the file.
pub(crate) fn set_word(fit: &mut [u8], at: usize, value: usize) {
    fit[at..at + 4].copy_from_slice(&(value as u32).to_be_bytes());
}

/// Flips the lowest bit where `bytes` begin in the file.
#[track_caller]
pub(crate) fn flip(mut fit: Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let at = fit.windows(bytes.len()).position(|window| window == bytes).expect("it is in the file");
    fit[at] ^= 1;
    fit
}

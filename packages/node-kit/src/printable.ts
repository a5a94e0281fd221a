/** Text of somebody else's in a message, a log line or on a terminal. */

/** Foreign words in a sentence of ours, characters. */
const longestQuote = 300;

/**
 * Control and format characters (terminal escapes, direction marks), line separators, halves of a pair, code points that
 * nobody has assigned, and whatever else is drawn as nothing: Unicode's categories C, Zl and Zp, and Default_Ignorable.
 */
const hidden = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/** Shows what a terminal would obey, or not draw: ESC as `\u001b`, a tag character as `\u{e0001}`. All else stays. */
export function printable(text: string): string {
  return text.replace(hidden, (character) => {
    const hex = (character.codePointAt(0) ?? 0).toString(16).padStart(4, '0');
    return hex.length > 4 ? `\\u{${hex}}` : `\\u${hex}`;
  });
}

/** The same without space around it, and cut to a length that fits a sentence: `…` stands for the rest. */
export function quoted(text: string, maxLength: number = longestQuote): string {
  // No character becomes shorter.
  const shown = printable(text.trim().slice(0, maxLength + 1));
  if (shown.length <= maxLength) return shown;
  return `${shown.slice(0, maxLength).replace(/[\ud800-\udbff]$/, '')}…`;
}

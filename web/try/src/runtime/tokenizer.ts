// WordPiece as BERT's tokenizers do it, from the vocabulary of a tokenizer.json.
// Source: Devlin et al. 2019, arXiv:1810.04805, and the fields of that file.

export interface TokenizerFile {
  normalizer: { type: string; lowercase: boolean };
  model: {
    type: string;
    unk_token: string;
    continuing_subword_prefix: string;
    max_input_chars_per_word: number;
    vocab: Record<string, number>;
  };
}

const CHINESE = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b820}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/u;
const PUNCTUATION = /[\p{P}$+<=>^`|~]/u;
const DROPPED = /[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\p{Cn}]/u;

/** Tokenizer of sentences in English. */
export class Tokenizer {
  private readonly vocabulary: Map<string, number>;

  constructor(private readonly file: TokenizerFile) {
    if (file.model.type !== "WordPiece" || file.normalizer.type !== "BertNormalizer") {
      throw new Error(`expected a WordPiece tokenizer of BERT, got ${file.model.type}`);
    }
    this.vocabulary = new Map(Object.entries(file.model.vocab));
  }

  /** Ids of a text, with the tokens of its begin and end, at most `maxTokens`. */
  encode(text: string, maxTokens: number): number[] {
    const ids = words(text, this.file.normalizer.lowercase).flatMap((word) => this.pieces(word));
    return [this.id("[CLS]"), ...ids.slice(0, maxTokens - 2), this.id("[SEP]")];
  }

  private id(token: string): number {
    const id = this.vocabulary.get(token);
    if (id === undefined) throw new Error(`the vocabulary has no ${token}`);
    return id;
  }

  /** The longest piece that the vocabulary has, then that of the rest. */
  private pieces(word: string): number[] {
    const { unk_token, continuing_subword_prefix, max_input_chars_per_word } = this.file.model;
    const letters = [...word];
    if (letters.length > max_input_chars_per_word) return [this.id(unk_token)];
    const ids: number[] = [];
    for (let begin = 0; begin < letters.length; ) {
      let end = letters.length;
      let id: number | undefined;
      for (; end > begin; end--) {
        const piece = letters.slice(begin, end).join("");
        id = this.vocabulary.get(begin ? continuing_subword_prefix + piece : piece);
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.id(unk_token)];
      ids.push(id);
      begin = end;
    }
    return ids;
  }
}

/** Words and marks of punctuation, in lower case and without accents. */
function words(text: string, lowercase: boolean): string[] {
  let clean = "";
  for (const letter of text) {
    if (DROPPED.test(letter)) continue;
    if (/\s/u.test(letter)) clean += " ";
    else clean += CHINESE.test(letter) ? ` ${letter} ` : letter;
  }
  if (lowercase) {
    clean = clean.normalize("NFD").replace(/\p{Mn}/gu, "");
    clean = [...clean].map((letter) => letter.toLowerCase()).join(""); // no rules of context
  }
  const found: string[] = [];
  for (const part of clean.split(/\s+/u)) {
    let word = "";
    for (const letter of part) {
      if (PUNCTUATION.test(letter)) {
        if (word) found.push(word);
        found.push(letter);
        word = "";
      } else word += letter;
    }
    if (word) found.push(word);
  }
  return found;
}

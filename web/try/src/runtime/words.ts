// What a sentence asks for, by the rules of generate/words/kinds.py and generate/going_on.py, whose
// tables come with the model's parts.

export interface Rules {
  /** Kinds of sound by the stem of a word that names them. */
  stems: Record<string, string[]>;
  /** Kinds that go on, with the verbs of their captions. */
  going_on: Record<string, string[]>;
  compound: string;
  otherwise: string;
  speech: string;
}

const ENDINGS = ["ing", "ed", "es", "s", "e"];

/** The word without its commonest endings. */
export function stem(word: string): string {
  const ending = ENDINGS.find((end) => word.endsWith(end) && word.length - end.length >= 3);
  return ending ? word.slice(0, -ending.length) : word;
}

/** Kinds that each word names; words that name none are left out. */
export function kindsByWord(text: string, rules: Rules): string[][] {
  const rest = text.replace(new RegExp(rules.compound, "gi"), "").toLowerCase();
  const stems = new Set((rest.match(/[a-z]+/g) ?? []).map(stem));
  return [...stems].filter((s) => Object.hasOwn(rules.stems, s)).map((s) => rules.stems[s]!);
}

/** Whether a text names continuous kinds alone, and does not say when they end. */
export function goesOn(text: string, rules: Rules): boolean {
  if (new RegExp(rules.otherwise, "i").test(text)) return false;
  const continues = (kind: string): boolean => Object.hasOwn(rules.going_on, kind);
  const named = new Set(kindsByWord(text, rules).flat().filter(continues));
  if (!named.size) return false;
  let rest = (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).join(" ");
  for (const [kind, verbs] of Object.entries(rules.going_on)) {
    if (named.has(kind)) for (const verb of verbs) rest = rest.replaceAll(verb, "");
  }
  return kindsByWord(rest, rules).every((kinds) => kinds.some(continues));
}

/** Whether a text asks for a voice, and names nothing else: the model makes no speech. */
export function asksForSpeechAlone(text: string, rules: Rules): boolean {
  return new RegExp(rules.speech, "i").test(text) && !kindsByWord(text, rules).length;
}

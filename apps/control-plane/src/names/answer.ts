import { AUTHORITATIVE_ANSWER, decode, encode, type StringAnswer } from 'dns-packet';

export interface Zone {
  domain: string;
  /** Of IPv4 and IPv6. */
  addresses: readonly string[];
}

/** RFC 1035, 4.1.1. */
const codes = { noError: 0, formatError: 1, notImplemented: 4, refused: 5 } as const;
/** A question with one name, and options of whoever asks. */
const longestQuestion = 1232;
const ttlSec = 60;

/**
 * The answer to a datagram: addresses for the domain and all names below it, and a refusal of everything else.
 * @returns undefined for what is no question, which gets no answer
 */
export function answer(datagram: Buffer, { domain, addresses }: Zone): Buffer | undefined {
  if (datagram.length > longestQuestion) return undefined;
  let asked: ReturnType<typeof decode>;
  try {
    asked = decode(datagram);
  } catch {
    return undefined;
  }
  // Two servers that answer each other's answers would never end.
  if (asked.type !== 'query') return undefined;
  const { id, questions = [], opcode } = asked as typeof asked & { opcode?: string };
  const reply = (code: number, flags = 0, answers: StringAnswer[] = []) =>
    encode({ type: 'response', id: id ?? 0, flags: code | flags, questions, answers });
  if (opcode !== 'QUERY') return reply(codes.notImplemented);
  const [question] = questions;
  if (!question || questions.length > 1) return reply(codes.formatError);
  const name = question.name.toLowerCase();
  const ours = name === domain || name.endsWith(`.${domain}`);
  if (!ours || question.class !== 'IN') return reply(codes.refused);
  const answers = addresses.flatMap((data): StringAnswer[] => {
    const type = data.includes(':') ? 'AAAA' : 'A';
    return type === question.type ? [{ type, name: question.name, ttl: ttlSec, data }] : [];
  });
  return reply(codes.noError, AUTHORITATIVE_ANSWER, answers);
}

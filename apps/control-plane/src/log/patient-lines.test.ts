import { pino } from 'pino';
import { expect, test, vi } from 'vitest';
import { PatientLines } from './patient-lines.ts';

function logged() {
  const written: string[] = [];
  const lines = new PatientLines({ write: (text) => void written.push(text) });
  const log = pino({ base: null, timestamp: false }, lines);
  const messages = () =>
    written.map((text) =>
      text
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { msg: string }).msg),
    );
  return { log, lines, messages };
}

test('lines of requests are written together, a tenth of a second later at most', async () => {
  vi.useFakeTimers();
  try {
    const { log, messages } = logged();
    log.info({ path: '/a' }, 'request');
    log.info({ path: '/b' }, 'request');
    expect(messages()).toEqual([]);
    vi.advanceTimersByTime(100);
    expect(messages()).toEqual([['request', 'request']]);
  } finally {
    vi.useRealTimers();
  }
});

test('any other line is written at once, after those that wait', () => {
  const { log, messages } = logged();
  log.info({}, 'request');
  log.warn({}, 'it goes wrong');
  log.info({}, 'perchd listens');
  expect(messages()).toEqual([['request', 'it goes wrong'], ['perchd listens']]);
});

test('many requests do not wait, and nothing is lost at the end', () => {
  const { log, lines, messages } = logged();
  for (let i = 0; i < 1001; i++) log.info({ path: '/'.padEnd(100, 'x') }, 'request');
  expect(messages().length).toBeGreaterThan(5);
  lines.flush();
  lines.flush();
  expect(messages().flat()).toHaveLength(1001);
});

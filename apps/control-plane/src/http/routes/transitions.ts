import { SandboxTransition, TransitionRequest } from '@perch/protocol';
import type { FastifyRequest } from 'fastify';
import type { Services } from '../services.ts';
import { type App, IdParams } from './app.ts';

const shared = {
  tags: ['sandboxes'],
  params: IdParams,
  body: TransitionRequest,
  optionalBody: true,
} as const;
const badBody = 'The body is neither empty nor {}.';
const unknown = 'No such sandbox.';
const noAnswer =
  'the host or the database does not answer. What became of it then shows in its status: what was under way is finished or taken back, never left half done';

/** Pause and resume. A client that goes away changes nothing: each goes on to its end. */
export function addTransitionRoutes(app: App, { sandboxes }: Services): void {
  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/pause',
    preValidation: emptyBody,
    schema: {
      ...shared,
      summary: 'Pause a sandbox: memory and disk go to files, and it holds nothing else',
      description:
        'Answers once it is paused, with the milliseconds of each stage. Processes, open files and servers inside go ' +
        'on after the resume. Connections to it end at once with an error that names the status, and with them the ' +
        'commands that were not started detached. No time runs while it is paused. Two calls at the same time share ' +
        'one pause and its answer. A client that goes away changes nothing.',
      response: {
        200: { ...SandboxTransition, description: 'It is paused.' },
        400: badBody,
        404: unknown,
        409: 'It does not run, or failed; the message names its status, such as paused, resuming or destroying.',
        500: 'pause_failed: it runs on.',
        503: `The host has no room on its disk for the pause, which is found out first: it runs on. Or ${noAnswer}.`,
      } as object,
    },
    handler: (request) => sandboxes.pause(request.params.id, request.id),
  });

  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/resume',
    preValidation: emptyBody,
    schema: {
      ...shared,
      summary: 'Resume a paused sandbox where it was',
      description:
        'Answers once it runs and its guest has confirmed clock, entropy and identity, with the milliseconds of each ' +
        'stage. It gets its full time-out again. Two calls at the same time, or a request that resumes it by ' +
        '`auto_resume`, share one resume and its answer. A client that goes away changes nothing.',
      response: {
        200: { ...SandboxTransition, description: 'It runs.' },
        400: badBody,
        404: unknown,
        409: 'It is not paused, or failed; the message names its status, such as running, pausing or destroying.',
        500: 'resume_failed, snapshot_damaged: it is still paused.',
        503: `The host has no room for it: it is still paused. Or ${noAnswer}.`,
      } as object,
    },
    handler: (request) => sandboxes.resume(request.params.id, request.id),
  });
}

/** No body at all is as good as an empty object. */
async function emptyBody(request: FastifyRequest): Promise<void> {
  request.body ??= {};
}

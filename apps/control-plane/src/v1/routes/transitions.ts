import {
  ForkResults,
  ForkSandbox,
  PauseSandbox,
  ResumeSandbox,
  SandboxHistory,
  SandboxTransition,
} from '@perch/protocol';
import { clientGone, type Services } from '../../http/index.ts';
import { toForkResults, toTransition } from '../view.ts';
import { type App, emptyBody, IdParams } from './app.ts';

const shared = { tags: ['sandboxes'], params: IdParams, optionalBody: true } as const;
const badField = 'A field is wrong; `details` names it.';
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
      body: PauseSandbox,
      summary: 'Pause a sandbox: memory and disk go to files, and it holds nothing else',
      description:
        'Answers once it is paused, with the milliseconds of each stage. Processes, open files and servers inside go ' +
        'on after the resume. Connections to it end at once with an error that names the status, and with them the ' +
        'commands that were not started detached. No time runs while it is paused. Two calls at the same time share ' +
        'one pause and its answer. A client that goes away changes nothing. With `memory: false` only the disk is kept, ' +
        'written out and clean; a resume boots the guest from it, with the same identity, environment and time-outs.',
      response: {
        200: { ...SandboxTransition, description: 'It is paused.' },
        400: badField,
        404: unknown,
        409: 'It does not run, is being paused in the other way, or failed; the message names its status, such as paused, resuming or destroying.',
        500: 'pause_failed: it runs on.',
        507: 'host_disk_full: the disk of the host filled up meanwhile, and it runs on.',
        503: `The host has no room on its disk for the pause, which is found out first: it runs on. Or cleanup_delayed: it is still pausing. Or ${noAnswer}.`,
      } as object,
    },
    handler: async (request) =>
      toTransition(await sandboxes.pause(request.params.id, request.id, request.body)),
  });

  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/resume',
    preValidation: emptyBody,
    schema: {
      ...shared,
      body: ResumeSandbox,
      summary: 'Resume a paused sandbox where it was',
      description:
        'Answers once it runs and its guest has confirmed clock, entropy and identity, with the milliseconds of each ' +
        'stage. It gets its full time-out again. Two calls for the same state at the same time, or a request ' +
        'that resumes it by `auto_resume`, share one resume and its answer. A client that goes away changes nothing. With `checkpoint` it goes on from ' +
        'an earlier state of its history instead; the states since then stay in the history as long as others do. With ' +
        '`memory: false` the guest is booted from its disk, also on a host that could not go on with the memory.',
      response: {
        200: { ...SandboxTransition, description: 'It runs.' },
        400: badField,
        404: 'No such sandbox, or no such checkpoint of it.',
        409: 'It is not paused, is being resumed from another state, or failed; the message names its status, such as running, pausing or destroying.',
        500: 'resume_failed, snapshot_damaged: it is still paused.',
        507: 'host_disk_full: the disk of the host filled up meanwhile, and it is still paused.',
        503: `The host has no room for it: it is still paused. Or ${noAnswer}.`,
      } as object,
    },
    handler: async (request) =>
      toTransition(await sandboxes.resume(request.params.id, request.id, request.body)),
  });

  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/fork',
    preValidation: emptyBody,
    schema: {
      ...shared,
      body: ForkSandbox,
      summary: 'Fork a running or paused sandbox: others that go on from where it is',
      description:
        'Children have the memory, processes and disk of the source, copied on write, its template, metadata and ' +
        'time-outs, and an identity of their own: id, host name, machine id, random numbers, clock; connections of ' +
        'the source are dead in them. The source stands still once for a moment (`frozen` in timings_ms), whatever ' +
        'the count. Answers when each child runs or failed. A client that goes away before leaves no child.',
      response: {
        201: { ...ForkResults, description: 'One result for each child.' },
        400: badField,
        404: 'No such sandbox, or no such checkpoint of it.',
        409: 'It neither runs nor is paused; the message names its status.',
        500: 'fork_failed, snapshot_damaged: the source is as before, and there is no child.',
        507: 'host_disk_full: the disk of the host filled up meanwhile, and there is no child.',
        503: `The host has no room on its disk for the copy, which is found out first. Or ${noAnswer}.`,
      } as object,
    },
    async handler(request, reply) {
      const context = { requestId: request.id, clientGone: clientGone(reply) };
      const forked = await sandboxes.fork(request.params.id, request.body, context);
      return reply.code(201).send(toForkResults(forked));
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/history',
    schema: {
      tags: ['sandboxes'],
      params: IdParams,
      summary: 'List the states of a sandbox that are kept',
      description:
        'Each pause and each snapshot is a checkpoint. The oldest go; resume and fork can go on from those that are ' +
        'there.',
      response: { 200: SandboxHistory, 404: unknown, 503: 'The host does not answer.' } as object,
    },
    handler: (request) => sandboxes.history(request.params.id, request.id),
  });
}

/** One epoch of an MLS group (RFC 9420), as one of its members has it. Nothing here talks to anyone. */
import type { ClientState, KeyPackage, PrivateKeyPackage, Proposal } from 'ts-mls';
import { createGroup, joinGroup } from 'ts-mls/clientState.js';
import {
  createCommit,
  createGroupInfoWithRatchetTree,
  joinGroupExternal,
} from 'ts-mls/createCommit.js';
import { ratchetTreeFromExtension } from 'ts-mls/groupInfo.js';
import { acceptAll } from 'ts-mls/incomingMessageAction.js';
import { generateKeyPackage, verifyKeyPackage } from 'ts-mls/keyPackage.js';
import { mlsExporter } from 'ts-mls/keySchedule.js';
import { verifyLeafNodeSignatureKeyPackage } from 'ts-mls/leafNode.js';
import { decodeMlsMessage, encodeMlsMessage, type MLSMessage } from 'ts-mls/message.js';
import { processMessage } from 'ts-mls/processMessages.js';
import { emptyPskIndex } from 'ts-mls/pskIndex.js';
import { zeroOutUint8Array } from 'ts-mls/util/byteArray.js';
import { type Bytes, fromBase64Url, toBase64Url } from '../bytes';
import { TAG_BITS } from '../keys';
import { KEY_BYTES, SUITE_NAME, suite } from './suite';

/** Of `MLS-Exporter`, RFC 9605 §5.2. */
const EXPORTER_LABEL = 'SFrame 1.0 Base Key';

/** More than the cipher's 16, for keys of many streams are derived from it. */
const SECRET_BYTES = 32;

/** Of a group's id the first half is the meeting's, so that one of another meeting is not taken. */
const MEETING_BYTES = 16;

/** A key package is used within seconds; clocks differ by more. */
const LIFETIME_BEFORE_S = 3_600n;
const LIFETIME_S = 28n * 86_400n;

/** The keys with which someone comes into a group once. */
export interface Newcomer {
  readonly publicPackage: KeyPackage;
  readonly privatePackage: PrivateKeyPackage;
  /** The public part, to be handed out. */
  readonly text: string;
}

/** A member, by its place in the tree. */
export interface Member {
  readonly index: number;
  readonly participantId: string;
  /** Of its signatures: another each time it comes. */
  readonly key: string;
}

/** What ends an epoch. */
export interface Commit {
  readonly commit: string;
  readonly welcome: string | undefined;
  readonly groupInfo: string;
  /** The next epoch, for whoever made it, once it is known that nobody else was first. */
  accepted(): Group;
}

/** New keys for one who wants to be in a group. */
export async function newcomer(participantId: string): Promise<Newcomer> {
  const now = BigInt(Math.floor(Date.now() / 1_000));
  const made = await generateKeyPackage(
    { credentialType: 'basic', identity: utf8(participantId) },
    {
      versions: ['mls10'],
      ciphersuites: [SUITE_NAME],
      extensions: [],
      proposals: [],
      credentials: ['basic'],
    },
    { notBefore: now - LIFETIME_BEFORE_S, notAfter: now + LIFETIME_S },
    [],
    await suite(),
  );
  const keyPackage = made.publicPackage;
  return { ...made, text: write({ version: 'mls10', wireformat: 'mls_key_package', keyPackage }) };
}

/** Reads what someone offers; `undefined` if it is no key package that they signed, or names someone else. */
export async function readKeyPackage(
  text: string,
  participantId: string,
): Promise<KeyPackage | undefined> {
  try {
    const message = read(text);
    if (message.wireformat !== 'mls_key_package') return undefined;
    const { keyPackage } = message;
    const { signature } = await suite();
    const isSigned =
      nameOf(keyPackage.leafNode) === participantId &&
      (await verifyKeyPackage(keyPackage, signature)) &&
      (await verifyLeafNodeSignatureKeyPackage(keyPackage.leafNode, signature));
    return isSigned ? keyPackage : undefined;
  } catch {
    return undefined;
  }
}

export class Group {
  readonly #state: ClientState;

  private constructor(state: ClientState) {
    this.#state = state;
  }

  /** Begins a group. */
  static async create(meetingId: string, own: Newcomer): Promise<Group> {
    const id = crypto.getRandomValues(new Uint8Array(2 * MEETING_BYTES));
    id.set(await meetingPart(meetingId));
    return new Group(
      await createGroup(id, own.publicPackage, own.privatePackage, [], await suite()),
    );
  }

  /** Comes into a group to which one was added. Throws if that was not so. */
  static async join(
    meetingId: string,
    own: Newcomer,
    welcome: string,
    groupInfo: string,
  ): Promise<Group> {
    const message = read(welcome);
    if (message.wireformat !== 'mls_welcome') throw new TypeError('MLS: no welcome');
    const state = await joinGroup(
      message.welcome,
      own.publicPackage,
      own.privatePackage,
      emptyPskIndex,
      await suite(),
      ratchetTreeFromExtension(readGroupInfo(groupInfo)),
    );
    return Group.#ofMeeting(meetingId, state);
  }

  /** Comes into a group from outside; it counts once the commit has been taken. */
  static async joinFromOutside(
    meetingId: string,
    own: Newcomer,
    groupInfo: string,
  ): Promise<Commit> {
    const { newState, publicMessage } = await joinGroupExternal(
      readGroupInfo(groupInfo),
      own.publicPackage,
      own.privatePackage,
      false,
      await suite(),
    );
    const next = await Group.#ofMeeting(meetingId, newState);
    const commit = write({ version: 'mls10', wireformat: 'mls_public_message', publicMessage });
    return { commit, welcome: undefined, groupInfo: await next.info(), accepted: () => next };
  }

  get id(): string {
    return toBase64Url(this.#state.groupContext.groupId);
  }

  get epoch(): number {
    return Number(this.#state.groupContext.epoch);
  }

  /** The last bits of the epoch, shifted by some of the group's: another group's are others, mostly. */
  get tag(): number {
    return (this.epoch + (this.#state.groupContext.groupId.at(-1) ?? 0)) % 2 ** TAG_BITS;
  }

  get ownIndex(): number {
    return this.#state.privatePath.leafIndex;
  }

  /** By their places in the tree. */
  get members(): readonly Member[] {
    return this.#state.ratchetTree.flatMap((node, at) =>
      node?.nodeType === 'leaf'
        ? [{ index: at / 2, participantId: nameOf(node.leaf), key: keyOf(node.leaf) }]
        : [],
    );
  }

  /** What others join it by from outside; with the tree, which a welcome leaves out. */
  async info(): Promise<string> {
    const { groupContext, confirmationTag, ratchetTree, keySchedule } = this.#state;
    const cipherSuite = await suite();
    const { publicKey } = await cipherSuite.hpke.deriveKeyPair(keySchedule.externalSecret);
    const key = await cipherSuite.hpke.exportPublicKey(publicKey);
    const extensionData = Uint8Array.of(KEY_BYTES, ...key);
    const groupInfo = await createGroupInfoWithRatchetTree(
      groupContext,
      confirmationTag,
      this.#state,
      ratchetTree,
      [{ extensionType: 'external_pub', extensionData }],
      cipherSuite,
    );
    return write({ version: 'mls10', wireformat: 'mls_group_info', groupInfo });
  }

  /** Makes what ends this epoch: with whom it adds and removes, and with keys of its own anew. */
  async commit(add: readonly KeyPackage[], remove: readonly number[]): Promise<Commit> {
    const extraProposals: Proposal[] = [
      ...remove.map((removed) => ({ proposalType: 'remove' as const, remove: { removed } })),
      ...add.map((keyPackage) => ({ proposalType: 'add' as const, add: { keyPackage } })),
    ];
    const { newState, commit, welcome, consumed } = await createCommit(
      { state: this.#state, cipherSuite: await suite() },
      { extraProposals },
    );
    const next = new Group(newState);
    return {
      commit: write(commit),
      welcome: welcome && write({ version: 'mls10', wireformat: 'mls_welcome', welcome }),
      groupInfo: await next.info(),
      accepted: () => {
        consumed.forEach(zeroOutUint8Array);
        return next;
      },
    };
  }

  /** The next epoch by another member's commit; `undefined` if that removes us. Throws if it is none of this epoch. */
  async next(commit: string): Promise<Group | undefined> {
    const message = read(commit);
    if (
      message.wireformat !== 'mls_private_message' &&
      message.wireformat !== 'mls_public_message'
    ) {
      throw new TypeError('MLS: no commit');
    }
    const cipherSuite = await suite();
    const result = await processMessage(
      message,
      this.#state,
      emptyPskIndex,
      acceptAll,
      cipherSuite,
    );
    if (result.newState.groupActiveState.kind === 'removedFromGroup') return undefined;
    const next = new Group(result.newState);
    if (result.kind !== 'newState' || next.epoch !== this.epoch + 1) {
      throw new TypeError('MLS: no commit of this epoch');
    }
    result.consumed.forEach(zeroOutUint8Array);
    return next;
  }

  /** The secret of this epoch's media (RFC 9605 §5.2). */
  async secret(): Promise<Bytes> {
    const { exporterSecret } = this.#state.keySchedule;
    const context = new Uint8Array();
    const cipherSuite = await suite();
    const secret = await mlsExporter(
      exporterSecret,
      EXPORTER_LABEL,
      context,
      SECRET_BYTES,
      cipherSuite,
    );
    return secret as Bytes;
  }

  /** Equal for all who are in this epoch of this group, with the same members, by the same history. */
  get authenticator(): Bytes {
    return this.#state.keySchedule.epochAuthenticator as Bytes;
  }

  static async #ofMeeting(meetingId: string, state: ClientState): Promise<Group> {
    const group = new Group(state);
    if (!group.id.startsWith(toBase64Url((await meetingPart(meetingId)).subarray(0, 15)))) {
      throw new TypeError('MLS: a group of another meeting');
    }
    return group;
  }
}

function utf8(text: string): Bytes {
  return new TextEncoder().encode(text);
}

async function meetingPart(meetingId: string): Promise<Bytes> {
  const text = utf8(`OpenCall E2EE group\0${meetingId}`);
  return new Uint8Array(await crypto.subtle.digest('SHA-256', text)).slice(0, MEETING_BYTES);
}

function nameOf(leaf: { credential: KeyPackage['leafNode']['credential'] }): string {
  const { credential } = leaf;
  return credential.credentialType === 'basic' ? new TextDecoder().decode(credential.identity) : '';
}

/** What tells two lives of one participant apart. */
export function keyOf(leaf: { signaturePublicKey: Uint8Array }): string {
  return toBase64Url(leaf.signaturePublicKey);
}

function readGroupInfo(text: string) {
  const message = read(text);
  if (message.wireformat !== 'mls_group_info') throw new TypeError('MLS: no group info');
  return message.groupInfo;
}

function read(text: string): MLSMessage {
  const bytes = fromBase64Url(text);
  const read = bytes && decodeMlsMessage(bytes, 0);
  if (!read || read[1] !== bytes.length) throw new TypeError('MLS: not to be read');
  return read[0];
}

function write(message: MLSMessage): string {
  return toBase64Url(encodeMlsMessage(message));
}

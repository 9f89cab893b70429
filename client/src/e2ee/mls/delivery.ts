/** What members and the server's delivery service say to each other; docs/OPERATIONS.md has the messages. */

/** A room's group as its delivery service knows it. */
export interface GroupState {
  /** `null`: there is none, and this client is to begin one. */
  readonly groupId: string | null;
  readonly epoch: number | null;
  readonly isMember: boolean;
  /** Who takes part now; whoever else is in the group is gone. */
  readonly participantIds: readonly string[];
  readonly waiting: readonly Offer[];
  readonly commits: readonly CommitNews[];
}

/** Someone who wants to be added; without a key package, a member who is there again. */
export interface Offer {
  readonly participantId: string;
  readonly keyPackage: string | null;
}

export interface CommitNews {
  readonly groupId: string;
  /** The one that it ends. */
  readonly epoch: number;
  readonly commit: string;
}

/** How it is asked. */
export interface DeliveryRequests {
  mlsJoin: {
    data: { keyPackage: string; groupId?: string; epoch?: number };
    answer: GroupState;
  };
  mlsCreate: {
    data: { groupId: string; groupInfo: string; replaces?: string };
    answer: GroupState;
  };
  /** Refused if another ended the epoch before. */
  mlsCommit: {
    data: {
      groupId: string;
      epoch: number;
      commit: string;
      groupInfo: string;
      welcome?: string;
      welcomed?: readonly string[];
    };
    answer: GroupState;
  };
  mlsGroup: { data: object; answer: { groupId: string; epoch: number; groupInfo: string } };
}

/** What it says unasked. */
export interface DeliveryEvents {
  mlsOffered: Offer;
  mlsLeft: { participantId: string };
  mlsCommit: CommitNews;
  mlsWelcome: GroupState & { welcome: string; groupInfo: string };
  mlsEnded: { groupId: string };
}

/** An event by name. */
export type DeliveryEvent = {
  [Name in keyof DeliveryEvents]: { name: Name; data: DeliveryEvents[Name] };
}[keyof DeliveryEvents];

/** The way there. A refusal rejects with `code` "request-refused" and the server's words in `message`. */
export interface Delivery {
  request<Name extends keyof DeliveryRequests>(
    name: Name,
    data: DeliveryRequests[Name]['data'],
  ): Promise<DeliveryRequests[Name]['answer']>;
  /** Of what is heard, only a `DeliveryEvent` matters. */
  on(name: 'event', listener: (event: { name: string; data: unknown }) => void): () => void;
}

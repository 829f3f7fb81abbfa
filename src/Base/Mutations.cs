// Mutations: bugs put in on purpose, one at a time, to prove that the simulator finds them (tests/Sim --mutations).
//
// Why here   A mutation is a line in the very code that ships; a copy of the code would prove nothing about it.
// Production The property is a feature switch: the NativeAOT compiler takes it as constant false and removes every
//            branch behind it. Under the JIT it is a static readonly false unless the host's runtimeconfig says otherwise,
//            which only the simulator's do, and the first optimised compilation removes the branches as well.
// Threads    Per thread: simulations with different mutations run beside each other, each in one thread.
using System;
using System.Diagnostics.CodeAnalysis;

namespace Cairn.Base;

/// <summary>Known bugs of consensus implementations, each with its line in the code.</summary>
public enum Mutation : byte
{
    None,

    // Raft core.
    AppendAnswerBeforeSync,
    VoteAnswerBeforeSync,
    VoteForgottenOnRestart,
    VoteRequestBeforeSync,
    LeaderCountsItselfBeforeSync,
    ApplyBeforeSync,
    CommitOfOlderTermByCounting,
    TruncateOnEveryAppend,
    HeartbeatCommitNotLimited,
    AppendCommitNotLimited,
    WalAcknowledgementAfterTruncation,
    ReadWithoutOwnTermCommit,
    SoleVoterReadWithoutOwnTermCommit,
    ReadJoinsRunningRound,
    ReadNumberReused,
    ReadsSurviveLeaderChange,
    CampaignWithUnappliedChange,
    TwoPendingChanges,
    ChangeWithoutCommitBeforeIt,
    TwoVotersInOneChange,
    PreCandidateKeepsLeader,
    NoAnswerToOldPreVote,
    FullWindowSendsNothing,
    SecondSnapshotWhileInstalling,
    ForwardedTwiceAppendedTwice,
    ConflictBelowCommitAccepted,
    HigherTermVoteDuringLease,
    LogNotComparedOnVote,

    // What drives the core.
    SnapshotOutcomeNotReported,

    // Log, tree, store.
    LogDurableWhenWritten,
    FailedSyncRetried,
    RecoveredTailNotSettled,
    LogReleasedBeforeMarker,
    AppliedIndexBeforeEffects,
    PagesReusedWhileRead,
    CompactionSwallowsDelete,
    CompactionNotResumed,

    // Server.
    ReadServedBeforeApplied,
    InstalledBeforeLive,

    // Watch.
    WatchersRestartAfterSnapshot,
    ProgressAheadOfStream,
    FutureWatchEmitsOld,
    SlowBatchDropped,
    CompactionOvertakesWatchers,

    // Leases.
    DeposedLeaderKeepsLeases,
    LeaseTimeNotExtended,
    LeasesForgottenOnInstall,
}

/// <summary>Which mutation this thread runs with.</summary>
public static class Mutations
{
    [ThreadStatic]
    private static Mutation t_active;

    /// <summary>This process is a simulation. Constant false in what ships.</summary>
    [FeatureSwitchDefinition("Cairn.Simulation")]
    public static bool AreCompiled { get; } = AppContext.TryGetSwitch("Cairn.Simulation", out bool isOn) && isOn;

    /// <summary>The bug this thread runs with; setting it does nothing outside simulations.</summary>
    public static Mutation Active
    {
        get => AreCompiled ? t_active : Mutation.None;
        set => t_active = value;
    }

    /// <summary>Shall the code misbehave in this way?</summary>
    public static bool Is(Mutation mutation) => AreCompiled && t_active == mutation;
}

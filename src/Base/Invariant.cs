// Invariant: checks that stay on in release. A broken one throws; the actor loop turns it into IFatal.Stop.
using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace Cairn.Base;

/// <summary>A rule of the code itself was broken; the state in memory can no longer be trusted.</summary>
public sealed class InvariantException : Exception
{
    public InvariantException(string message)
        : base(message)
    {
    }
}

/// <summary>Always-on assertions. Never for bytes from disk or network: those are input and get an error.</summary>
public static class Invariant
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Check([DoesNotReturnIf(false)] bool condition, string rule)
    {
        if (!condition)
        {
            Throw(rule);
        }
    }

    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static void Throw(string rule) => throw new InvariantException("invariant broken: " + rule);
}

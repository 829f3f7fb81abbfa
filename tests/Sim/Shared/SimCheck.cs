// SimCheck: how the simulator says that a rule of raft.md section 3 does not hold.
using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace Cairn.Simulation;

/// <summary>A rule was broken: the run has found a bug (or a mutation).</summary>
internal sealed class SimViolationException(string message) : Exception(message);

/// <summary>Assertions of the simulator. The text is only put together when the rule is broken.</summary>
internal static class SimCheck
{
    public static void That(
        [DoesNotReturnIf(false)] bool holds, [InterpolatedStringHandlerArgument(nameof(holds))] ref SimCheckText text)
    {
        if (!holds)
        {
            Fail(text.ToString());
        }
    }

    public static void That([DoesNotReturnIf(false)] bool holds, string rule)
    {
        if (!holds)
        {
            Fail(rule);
        }
    }

    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static void Fail(string message) => throw new SimViolationException(message);
}

/// <summary>Formats nothing while the rule holds.</summary>
[InterpolatedStringHandler]
internal ref struct SimCheckText
{
    private DefaultInterpolatedStringHandler _inner;
    private readonly bool _isNeeded;

    public SimCheckText(int literalLength, int formattedCount, bool holds, out bool isNeeded)
    {
        isNeeded = _isNeeded = !holds;
        _inner = isNeeded
            ? new DefaultInterpolatedStringHandler(literalLength, formattedCount, System.Globalization.CultureInfo.InvariantCulture)
            : default;
    }

    public void AppendLiteral(string value) => _inner.AppendLiteral(value);

    public void AppendFormatted<T>(T value) => _inner.AppendFormatted(value);

    public void AppendFormatted<T>(T value, string? format) => _inner.AppendFormatted(value, format);

    public override string ToString() => _isNeeded ? _inner.ToStringAndClear() : string.Empty;
}
